"""Leaf certificates for Envoy and HAProxy, from the authority that ztunnel uses: ECDSA P-256, SPIFFE URI."""

import os
import pathlib

from processes import run

PREFIX = "spiffe://cluster.local/ns/bench/sa/"


class Certificates:
    def __init__(self, ztunnel, directory):
        self.authority = os.path.join(directory, "ca")
        self.directory = os.path.join(directory, "leaves")
        os.makedirs(self.directory)
        run([ztunnel, "make-ca", self.authority])
        self.root = os.path.join(self.authority, "root-cert.pem")
        for account in ("client", "server"):
            self.issue(account)

    def path(self, name):
        return os.path.join(self.directory, name)

    def key(self, account):
        return self.path(f"{account}.key")

    def chain(self, account):
        return self.path(f"{account}.pem")

    def bundle(self, account):
        """Certificate, chain and key in one file."""
        return self.path(f"{account}-bundle.pem")

    def issue(self, account):
        request, leaf = self.path(f"{account}.csr"), self.path(f"{account}-leaf.pem")
        extensions = self.path(f"{account}.ext")
        pathlib.Path(extensions).write_text(
            f"subjectAltName=critical,URI:{PREFIX}{account}\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n")
        run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/", "-keyout", self.key(account), "-out", request])
        run(["openssl", "x509", "-req", "-in", request, "-CA", os.path.join(self.authority, "ca-cert.pem"),
             "-CAkey", os.path.join(self.authority, "ca-key.pem"), "-set_serial", str(int.from_bytes(os.urandom(8), "big")),
             "-days", "2", "-sha256", "-extfile", extensions, "-out", leaf])
        chain = pathlib.Path(leaf).read_text() + pathlib.Path(self.authority, "cert-chain.pem").read_text()
        pathlib.Path(self.chain(account)).write_text(chain)
        pathlib.Path(self.bundle(account)).write_text(chain + pathlib.Path(self.key(account)).read_text())
