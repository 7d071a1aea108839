"""A gRPC server on gRPC's C core. Arguments: certificate, key. Prints its port, then serves until it is killed."""

import concurrent.futures
import json
import sys
import threading
import time

import grpc

server = None


def echo(request, context):
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "no “entry” at 100%\nfor you")


def describe(request, context):
    context.set_trailing_metadata((("x-late", "yes"),))
    fields = {name: value for name, value in context.invocation_metadata()}
    fields["left"] = context.time_remaining()
    return json.dumps(fields).encode()


def sleep(request, context):
    time.sleep(float(request))
    return b"slept"


def large(request, context):
    return bytes(int(request))


def echo_each(requests, context):
    for request in requests:
        yield request
        if request == b"stop":
            # The C core sends GOAWAY and lets this very call go on.
            threading.Thread(target=lambda: server.stop(10)).start()


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def unary(function):
    return grpc.unary_unary_rpc_method_handler(function)


def main():
    global server
    with open(sys.argv[1], "rb") as chain, open(sys.argv[2], "rb") as key:
        credentials = grpc.ssl_server_credentials([(key.read(), chain.read())])
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=options)
    handlers = {
        "Echo": unary(echo),
        "Fail": unary(fail),
        "Describe": unary(describe),
        "Sleep": unary(sleep),
        "Large": unary(large),
        "EchoEach": grpc.stream_stream_rpc_method_handler(echo_each),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    print("port", server.add_secure_port("127.0.0.1:0", credentials), flush=True)
    server.start()
    server.wait_for_termination()


main()
