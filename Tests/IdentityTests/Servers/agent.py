"""A SPIFFE agent for tests, on gRPC's C core. Arguments: socket, directory of .proto files, state file.

The state file is JSON: {"svids": [{"id", "svid", "key", "bundle": base64 of DER}], "federated": {id: base64 of DER}} or
{"error": name of a status}. It is looked at all the time, and each stream gets an answer whenever it has changed. Each
stream is printed as a line."""

import base64
import concurrent.futures
import importlib
import json
import os
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

SOCKET, PROTOS, STATE = sys.argv[1:4]
out = tempfile.mkdtemp()
if protoc.main(["protoc", f"-I{PROTOS}", f"--python_out={out}", "workloadapi.proto"]) != 0:
    sys.exit("the .proto file does not compile")
sys.path.insert(0, out)
api = importlib.import_module("workloadapi_pb2")


def say(*words):
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def fetch(request, context):
    metadata = dict(context.invocation_metadata())
    if metadata.get("workload.spiffe.io") != "true":
        say("refused")
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
    say("stream")
    told = None
    while context.is_active():
        with open(STATE) as file:
            text = file.read()
        if text == told:
            time.sleep(0.02)
            continue
        told = text
        state = json.loads(text)
        if "error" in state:
            context.abort(grpc.StatusCode[state["error"]], "no identity issued")
        if "end" in state:
            return
        response = api.X509SVIDResponse()
        for entry in state["svids"]:
            response.svids.add(
                spiffe_id=entry["id"], x509_svid=base64.b64decode(entry["svid"]),
                x509_svid_key=base64.b64decode(entry["key"]), bundle=base64.b64decode(entry["bundle"]))
        for name, bundle in state.get("federated", {}).items():
            response.federated_bundles[name] = base64.b64decode(bundle)
        yield response


server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
handler = grpc.unary_stream_rpc_method_handler(
    fetch, api.X509SVIDRequest.FromString, api.X509SVIDResponse.SerializeToString)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", {"FetchX509SVID": handler}),))
server.add_insecure_port(f"unix:{SOCKET}")
server.start()
say("serving")
while True:
    time.sleep(60)
