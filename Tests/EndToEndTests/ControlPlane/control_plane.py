"""A control plane for tests, on gRPC's C core: delta discovery and a certificate service.

Arguments: address, port, directory of .proto files, directory of the certificate authority, state file, token.
The state file is JSON: {"serial": number, "resources": {type URL: {name: the resource in protobuf's JSON form, or
{"raw": base64}}}}. It is looked at all the time, and each stream gets what differs from what it has. While there is a file
of its name with ".unsigned" behind, nothing is signed. Every request is printed as a line, and so is that a stream has
answered all that belongs to a serial number."""

import base64
import concurrent.futures
import datetime
import hashlib
import importlib
import ipaddress
import json
import os
import queue
import sys
import tempfile
import threading
import time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from grpc_tools import protoc

ADDRESS, PORT, PROTOS, AUTHORITY, STATE, TOKEN = sys.argv[1:7]
ADDRESS_URL = "type.googleapis.com/istio.workload.Address"
POLICY_URL = "type.googleapis.com/istio.security.Authorization"


def compile_protos():
    out = tempfile.mkdtemp()
    well_known = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    names = ["workload.proto", "authorization.proto", "discovery.proto", "citadel.proto"]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", f"--python_out={out}", *names]) != 0:
        sys.exit("the .proto files do not compile")
    sys.path.insert(0, out)
    return [importlib.import_module(name.replace(".proto", "_pb2")) for name in names]


workload, authorization, discovery, citadel = compile_protos()
KINDS = {ADDRESS_URL: workload.Address, POLICY_URL: authorization.Authorization}


speaking = threading.Lock()


def say(*words):
    # In one piece: print writes word by word, and threads would mix them.
    with speaking:
        sys.stdout.write(" ".join(str(word) for word in words) + "\n")
        sys.stdout.flush()


def load(name):
    with open(os.path.join(AUTHORITY, name), "rb") as file:
        return file.read()


CA = x509.load_pem_x509_certificate(load("ca-cert.pem"))
CA_KEY = serialization.load_pem_private_key(load("ca-key.pem"), None)


def sign(public_key, names, critical, lifetime):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(CA.subject)
    builder = builder.public_key(public_key).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(minutes=2))
    builder = builder.not_valid_after(min(now + lifetime, CA.not_valid_after_utc))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical)
    usages = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key())
    return builder.add_extension(key_id, False).sign(CA_KEY, hashes.SHA256())


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class State:
    """What the state file says, as resources by type and name."""

    def __init__(self):
        self.text = None
        self.serial = 0
        self.resources = {ADDRESS_URL: {}, POLICY_URL: {}}

    def read(self):
        with open(STATE) as file:
            text = file.read()
        if text == self.text:
            return
        document = json.loads(text)
        resources = {}
        for url, entries in document["resources"].items():
            resources[url] = {}
            for name, content in entries.items():
                if "raw" in content:
                    value = base64.b64decode(content["raw"])
                else:
                    value = json_format.ParseDict(content, KINDS[url]()).SerializeToString()
                resources[url][name] = value
        self.resources, self.serial, self.text = resources, document["serial"], text


def version(url, value):
    return hashlib.sha256(value).hexdigest()[:16] if url == ADDRESS_URL else ""


def delta(requests, context):
    metadata = dict(context.invocation_metadata())
    if metadata.get("authorization") != f"Bearer {TOKEN}":
        say("stream refused")
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
    incoming = queue.Queue()

    def pull():
        try:
            for request in requests:
                incoming.put(request)
        except Exception:
            pass
        incoming.put(None)

    threading.Thread(target=pull, daemon=True).start()
    state, held, number = State(), {}, 0
    node, waiting, told = "", set(), None
    while context.is_active():
        try:
            request = incoming.get(timeout=0.02)
            if request is None:
                return
            url, short = request.type_url, request.type_url.split(".")[-1]
            waiting.discard(request.response_nonce)
            node = request.node.id or node
            if request.error_detail.message:
                say("NACK", short, request.error_detail.message)
            elif request.response_nonce:
                say("ACK", short, request.response_nonce)
            else:
                say("subscribe", request.node.id, short, f"held={len(request.initial_resource_versions)}")
                # Policies have no version, so all of them are sent again (xds.md §3.2).
                held[url] = {name: (v if url == ADDRESS_URL else None)
                             for name, v in request.initial_resource_versions.items()}
                held[url][None] = None
        except queue.Empty:
            pass
        state.read()
        for url, known in held.items():
            resources = state.resources.get(url, {})
            first = known.pop(None, "") is None
            response = discovery.DeltaDiscoveryResponse(type_url=url)
            for name, value in resources.items():
                # What is compared are bytes within a stream and versions between streams.
                if known.get(name) in (value, version(url, value) or value):
                    continue
                resource = response.resources.add(name=name, version=version(url, value))
                resource.resource.type_url, resource.resource.value = url, value
            response.removed_resources.extend(name for name in known if name not in resources)
            held[url] = dict(resources)
            if first or response.resources or response.removed_resources:
                number += 1
                response.nonce = str(number)
                waiting.add(response.nonce)
                say("push", url.split(".")[-1], f"resources={len(response.resources)}",
                    f"removed={len(response.removed_resources)}")
                yield response
        if len(held) == len(KINDS) and not waiting and told != state.serial:
            told = state.serial
            say("in force", told, node)


def create_certificate(request, context):
    metadata = dict(context.invocation_metadata())
    if metadata.get("authorization") != f"Bearer {TOKEN}" or metadata.get("clusterid") != "west":
        say("signing refused")
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
    if os.path.exists(STATE + ".unsigned"):
        say("not signing")
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    csr = x509.load_pem_x509_csr(request.csr.encode())
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    wanted = request.metadata["ImpersonatedIdentity"]
    asked = [name.value for name in names.value]
    if not csr.is_signature_valid or not names.critical or asked != [wanted] or list(csr.subject):
        say("bad request for", wanted, asked)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad certificate request")
    lifetime = datetime.timedelta(seconds=request.validity_duration)
    leaf = sign(csr.public_key(), [x509.UniformResourceIdentifier(wanted)], True, lifetime)
    say("signed", wanted, f"serial={leaf.serial_number:x}")
    roots = load("root-cert.pem").decode()
    chain = [pem(leaf)] + ([] if CA.issuer == CA.subject else [pem(CA)]) + [roots]
    return citadel.IstioCertificateResponse(cert_chain=chain)


def main():
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign(
        key.public_key(), [x509.DNSName("istiod.istio-system.svc"), x509.IPAddress(ipaddress.ip_address(ADDRESS))],
        False, datetime.timedelta(hours=1))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = pem(certificate) + ("" if CA.issuer == CA.subject else pem(CA))
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
    discovery_handlers = {
        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
            delta, discovery.DeltaDiscoveryRequest.FromString, discovery.DeltaDiscoveryResponse.SerializeToString)}
    citadel_handlers = {
        "CreateCertificate": grpc.unary_unary_rpc_method_handler(
            create_certificate, citadel.IstioCertificateRequest.FromString,
            citadel.IstioCertificateResponse.SerializeToString)}
    handlers = {
        "envoy.service.discovery.v3.AggregatedDiscoveryService": discovery_handlers,
        "istio.v1.auth.IstioCertificateService": citadel_handlers}
    for service, methods in handlers.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    server.add_secure_port(f"{ADDRESS}:{PORT}", grpc.ssl_server_credentials([(private, chain.encode())]))
    server.start()
    say("serving", f"{ADDRESS}:{PORT}")
    while True:
        time.sleep(60)


main()
