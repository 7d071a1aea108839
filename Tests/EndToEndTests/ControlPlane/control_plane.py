"""A control plane for tests, on gRPC's C core: delta discovery and a certificate service.

Arguments: address, port, directory of .proto files, directory of the certificate authority, state file, token.
The state file is JSON: {"serial": number, "resources": {type URL: {name: the resource in protobuf's JSON form, or
{"raw": base64}}}}. It is looked at all the time, and each stream gets what differs from what it has. While there is a file
of its name with ".unsigned" behind, nothing is signed; with ".silent", no stream is answered; with ".lifetime", certificates
live no longer than the seconds that it holds. CONTROL_PLANE_RECEIVES in the environment is the most bytes that are taken in
one message; gRPC's own limit without it. The authority's files are read for each signature. Every request is printed as a line, and so is that a stream has
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


def authority():
    return (x509.load_pem_x509_certificate(load("ca-cert.pem")),
            serialization.load_pem_private_key(load("ca-key.pem"), None))


def sign(ca, ca_key, public_key, names, critical, lifetime):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(ca.subject)
    builder = builder.public_key(public_key).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(minutes=2))
    builder = builder.not_valid_after(min(now + lifetime, ca.not_valid_after_utc))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical)
    usages = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return builder.add_extension(key_id, False).sign(ca_key, hashes.SHA256())


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


def aliases(value):
    """Every address of a workload or a service, as network/ip."""
    record = workload.Address.FromString(value)
    if record.WhichOneof("type") == "workload":
        return [f"{record.workload.network}/{ipaddress.ip_address(address)}" for address in record.workload.addresses]
    return [f"{address.network}/{ipaddress.ip_address(address.address)}" for address in record.service.addresses]


def on_demand(resources, wanted, asked, node):
    """Of all resources those that are subscribed to by a name or an alias, with the workloads of services and of the
    asking node; which of them answer what was just asked for; and the names just asked for that are nobody's
    (xds.md §3.2)."""
    of_node = node.partition("ztunnel-")[2].partition(".")[0]
    found, fresh, answered = {}, set(), set()
    for name, value in resources.items():
        own = {name, *aliases(value)}
        if own & wanted:
            found[name] = value
        if own & asked:
            fresh.add(name)
            answered |= own
    services = set(found)
    for name, value in resources.items():
        record = workload.Address.FromString(value).workload
        if services & set(record.services) or (of_node and record.node == of_node):
            found[name] = value
    return found, fresh, asked - answered


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
    # Names subscribed to by type, where that is not everything, and those not answered yet.
    wanted, asked = {}, {}
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
            elif url in held:
                for name in request.resource_names_subscribe:
                    say("demand", short, name)
                for name in request.resource_names_unsubscribe:
                    say("release", short, name)
                wanted[url] |= set(request.resource_names_subscribe)
                asked[url] |= set(request.resource_names_subscribe)
                wanted[url] -= set(request.resource_names_unsubscribe)
                for name in request.resource_names_unsubscribe:
                    held[url].pop(name, None)
            else:
                names = dict(request.initial_resource_versions)
                if request.resource_names_subscribe:
                    wanted[url] = set(names)
                    asked[url] = {name for name, held_version in names.items() if not held_version}
                    names = {name: held_version for name, held_version in names.items() if held_version}
                say("subscribe", request.node.id, short, f"held={len(request.initial_resource_versions)}")
                # Policies have no version, so all of them are sent again (xds.md §3.2).
                held[url] = {name: (v if url == ADDRESS_URL else None)
                             for name, v in names.items()}
                held[url][None] = None
        except queue.Empty:
            pass
        state.read()
        if os.path.exists(STATE + ".silent"):
            continue
        for url, known in held.items():
            resources, unknown = state.resources.get(url, {}), set()
            if url in wanted:
                resources, fresh, unknown = on_demand(resources, wanted[url], asked[url], node)
                # What is asked for is sent, be it held or not.
                known = {name: value for name, value in known.items() if name not in fresh}
                asked[url].clear()
            first = known.pop(None, "") is None
            response = discovery.DeltaDiscoveryResponse(type_url=url)
            for name, value in resources.items():
                # What is compared are bytes within a stream and versions between streams.
                if known.get(name) in (value, version(url, value) or value):
                    continue
                resource = response.resources.add(name=name, version=version(url, value))
                resource.resource.type_url, resource.resource.value = url, value
                resource.aliases.extend(aliases(value) if url in wanted else ())
            response.removed_resources.extend({name for name in known if name not in resources} | unknown)
            held[url] = dict(resources)
            if first or response.resources or response.removed_resources:
                number += 1
                response.nonce = str(number)
                waiting.add(response.nonce)
                if url in wanted:
                    say("answers", *(resource.name for resource in response.resources), "without", *sorted(unknown))
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
    if os.path.exists(STATE + ".lifetime"):
        with open(STATE + ".lifetime") as file:
            lifetime = min(lifetime, datetime.timedelta(seconds=int(file.read())))
    ca, ca_key = authority()
    leaf = sign(ca, ca_key, csr.public_key(), [x509.UniformResourceIdentifier(wanted)], True, lifetime)
    say("signed", wanted, f"serial={leaf.serial_number:x}")
    roots = load("root-cert.pem").decode()
    chain = [pem(leaf)] + ([] if ca.issuer == ca.subject else [pem(ca)]) + [roots]
    return citadel.IstioCertificateResponse(cert_chain=chain)


def main():
    key = ec.generate_private_key(ec.SECP256R1())
    ca, ca_key = authority()
    certificate = sign(
        ca, ca_key, key.public_key(), [x509.DNSName("istiod.istio-system.svc"), x509.IPAddress(ipaddress.ip_address(ADDRESS))],
        False, datetime.timedelta(hours=1))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = pem(certificate) + ("" if ca.issuer == ca.subject else pem(ca))
    options = [("grpc.so_reuseport", 0)]
    if "CONTROL_PLANE_RECEIVES" in os.environ:
        options.append(("grpc.max_receive_message_length", int(os.environ["CONTROL_PLANE_RECEIVES"])))
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=options)
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
