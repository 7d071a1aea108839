"""A control plane for the scale benchmark: delta discovery of a mesh that it makes up, on gRPC's C core.

It encodes protobuf by itself, because it has to be quick about 100,000 resources. Commands come as lines of JSON on its
standard input, and each is answered by one line of JSON on its standard output.

Arguments: port, file of the private key, file of the certificate."""

import concurrent.futures
import hashlib
import json
import os
import queue
import sys
import threading
import time

import grpc

ADDRESS = b"type.googleapis.com/istio.workload.Address"
POLICY = b"type.googleapis.com/istio.security.Authorization"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SERVER, CLIENT, NODE = "10.77.1.1", "10.77.1.2", "node-a"
ENDPOINTS_OF_BIG = 10_000


# Encoding.

def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def fields(message):
    """The fields of a message that are strings or messages."""
    position = 0

    def read():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        tag = read()
        if tag & 7 == 0:
            read()
            continue
        length = read()
        yield tag >> 3, message[position:position + length]
        position += length


def ip(text):
    return bytes(int(part) for part in text.split("."))


def ports(service_port, target_port):
    return block(1, number(1, service_port) + number(2, target_port))


# The mesh (xds.md §5).

def workload(uid, name, namespace, address, account, node, application, services, capacity=None, zone="a"):
    message = (
        block(1, name) + block(2, namespace) + block(3, address) + number(5, 1) + block(7, account) + block(9, node)
        + block(10, application) + block(11, "latest") + block(13, application) + block(18, "cluster-1")
        + block(20, uid))
    for hostname in services:
        message += block(22, block(1, f"{namespace}/{hostname}") + block(2, ports(80, 8080)))
    message += block(24, block(1, "region-1") + block(2, f"region-1-{zone}"))
    if capacity is not None:
        message += block(27, number(1, capacity))
    return uid, block(1, message)


def service(namespace, hostname, address, scopes=()):
    message = (
        block(1, hostname.partition(".")[0]) + block(2, namespace) + block(3, hostname)
        + block(4, block(2, address)) + block(5, number(1, 80) + number(2, 8080)) + number(11, 1))
    if scopes:
        message += block(8, b"".join(number(1, scope) for scope in scopes) + number(2, 2))
    return f"{namespace}/{hostname}", block(2, message)


def host(name, namespace):
    return f"{name}.{namespace}.svc.cluster.local"


class Mesh:
    """So many workloads, ten to a service; two pods that are really there; and a service with up to 10,000 endpoints, of
    which the client prefers the one on its own node."""

    def __init__(self, workloads):
        self.workloads = workloads
        self.resources = {}
        self.revision = 0
        self.salt = ""
        for index in range(workloads):
            self.put(*self.workload(index))
        for index in range(workloads // 10):
            self.put(*self.service(index))
        for name, address, services in (("client", CLIENT, []), ("server", SERVER, ["big", "small"])):
            self.put(*workload(
                f"cluster-1//Pod/bench/{name}", name, "bench", ip(address), name, NODE, name,
                [host(service, "bench") for service in services]))
        # Prefers the same node (5 is NODE's, 4 SUBZONE's, … number).
        self.put(*service("bench", host("big", "bench"), ip("10.255.0.1"), scopes=(6, 1, 2, 3, 4)))
        self.put(*service("bench", host("small", "bench"), ip("10.255.0.2")))

    def workload(self, index, capacity=None):
        group = index // 10
        application = f"application-{group}"
        namespace = "bench" if index < ENDPOINTS_OF_BIG else f"namespace-{group % 100}"
        name = f"{application}-{hashlib.md5(str(index).encode()).hexdigest()[:10]}-{index % 10:05d}"
        services = [host(application, namespace)]
        if index < ENDPOINTS_OF_BIG:
            services.append(host("big", "bench"))
        return workload(
            f"cluster-1//Pod/{namespace}/{name}", name, namespace,
            bytes((10, 100 + (index >> 16), index >> 8 & 255, index & 255)), f"account-of-{application}",
            f"worker-node-{index % 1000}", application, services, capacity, "abc"[index % 3])

    def service(self, index):
        namespace = "bench" if index * 10 < ENDPOINTS_OF_BIG else f"namespace-{index % 100}"
        return service(namespace, host(f"application-{index}", namespace),
                       bytes((10, 200 + (index >> 16), index >> 8 & 255, index & 255)))

    def put(self, name, value):
        self.resources[name] = (self.version(value), value)

    def version(self, value):
        return hashlib.md5(value + self.salt.encode()).hexdigest()[:16]

    def change(self, index):
        """Changes one workload and returns its name."""
        self.revision += 1
        name, value = self.workload(index, capacity=1 + self.revision % 50)
        self.put(name, value)
        return name

    def rename_versions(self):
        """The same resources as another control plane would call them: each is sent again."""
        self.salt = os.urandom(4).hex()
        for name, (_, value) in self.resources.items():
            self.resources[name] = (self.version(value), value)


def response(url, resources, removed, nonce):
    parts = [
        block(2, block(1, version) + block(2, block(1, url) + block(2, value)) + block(3, name))
        for name, (version, value) in resources]
    parts += [block(4, url), block(5, nonce)] + [block(6, name) for name in removed]
    return b"".join(parts)


class Plane:
    def __init__(self):
        self.mesh = None
        self.policies = {}
        self.streams = []
        self.nonce = 0
        self.events = queue.Queue()

    def stream(self, requests, context):
        outgoing = queue.Queue()
        self.streams.append(outgoing)

        def pull():
            try:
                for request in requests:
                    self.receive(request, outgoing)
            except Exception:
                pass
            outgoing.put(None)

        threading.Thread(target=pull, daemon=True).start()
        while True:
            message = outgoing.get()
            if message is None:
                self.streams.remove(outgoing)
                context.abort(grpc.StatusCode.UNAVAILABLE, "transport is closing")
            yield message

    def receive(self, request, outgoing):
        url, nonce, held = b"", None, {}
        for field, content in fields(request):
            if field == 2:
                url = content
            elif field == 5:
                entry = dict(fields(content))
                held[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
            elif field == 6:
                nonce = content.decode()
            elif field == 7:
                self.events.put({"rejected": dict(fields(content)).get(2, b"").decode()})
        if nonce:
            self.events.put({"answered": nonce, "at": time.monotonic()})
            return
        resources = self.mesh.resources if url == ADDRESS else self.policies
        differing = [(name, entry) for name, entry in resources.items() if held.get(name) != entry[0]]
        removed = [name for name in held if name not in resources]
        sent = self.send(url, differing, removed, outgoing)
        self.events.put({"subscribed": url.decode(), "held": len(held), **sent})

    def send(self, url, resources, removed, outgoing=None):
        self.nonce += 1
        message = response(url, resources, removed, str(self.nonce))
        sent = {"nonce": str(self.nonce), "bytes": len(message), "resources": len(resources), "at": time.monotonic()}
        for stream in [outgoing] if outgoing else list(self.streams):
            stream.put(message)
        return sent

    def answer_to(self, sent):
        """Seconds from the sending of a response to its answer: then every worker decides by it."""
        while True:
            event = self.events.get(timeout=120)
            if "rejected" in event:
                raise RuntimeError(f"the proxy rejects: {event['rejected'][:300]}")
            if event.get("answered") == sent["nonce"]:
                return event["at"] - sent["at"]

    # Commands.

    def build(self, workloads):
        self.mesh = Mesh(workloads)
        return {"resources": len(self.mesh.resources)}

    def subscription(self):
        """Waits for the next stream to be served, and how long its first response of addresses took."""
        while True:
            event = self.events.get(timeout=120)
            if event.get("subscribed") == ADDRESS.decode():
                return {"held": event["held"], "resources": event["resources"], "bytes": event["bytes"],
                        "seconds": self.answer_to(event)}

    def change(self, times, index):
        seconds = []
        for _ in range(times):
            name = self.mesh.change(index)
            seconds.append(self.answer_to(self.send(ADDRESS, [(name, self.mesh.resources[name])], [])))
            time.sleep(0.01)
        return {"seconds": seconds}

    def policy(self, times):
        seconds = []
        for turn in range(times):
            content = (block(1, "nobody") + block(2, "elsewhere") + number(3, 1) + number(4, 1)
                       + (number(6, 1) if turn % 2 else b""))
            self.policies["elsewhere/nobody"] = ("", content)
            seconds.append(self.answer_to(self.send(POLICY, list(self.policies.items()), [])))
            time.sleep(0.01)
        return {"seconds": seconds}

    def remove(self, keep):
        """Removes all but the first `keep` workloads and their services, in one response."""
        kept = Mesh(keep)
        removed = [name for name in self.mesh.resources if name not in kept.resources]
        self.mesh = kept
        return {"removed": len(removed), "seconds": self.answer_to(self.send(ADDRESS, [], removed))}

    def restore(self, workloads):
        self.mesh = Mesh(workloads)
        sent = self.send(ADDRESS, list(self.mesh.resources.items()), [])
        return {"resources": sent["resources"], "seconds": self.answer_to(sent)}

    def cut(self, rename):
        """Ends all streams; the proxy makes another."""
        if rename:
            self.mesh.rename_versions()
        for stream in list(self.streams):
            stream.put(None)
        return {}


def main():
    port, key, certificate = sys.argv[1:4]
    plane = Plane()
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(8),
        # What istiod takes is gRPC's own limit, 4 MiB.
        options=[("grpc.max_send_message_length", -1)])
    handler = grpc.stream_stream_rpc_method_handler(plane.stream)
    service_name, method_name = METHOD[1:].split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service_name, {method_name: handler}),))
    with open(key, "rb") as key_file, open(certificate, "rb") as certificate_file:
        credentials = grpc.ssl_server_credentials([(key_file.read(), certificate_file.read())])
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    print(json.dumps({"serving": port}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("command")
        try:
            result = getattr(plane, name)(**command)
        except Exception as error:
            result = {"error": f"{name}: {error!r}"}
        print(json.dumps(result), flush=True)


main()
