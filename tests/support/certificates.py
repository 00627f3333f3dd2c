"""Certificates of the tests' own authority, created in memory for each run."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that signs what a test asks for."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """Its certificate, as a client trusts it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server_context(self, folder: Path, *names: str, age: timedelta = timedelta(0)) -> ssl.SSLContext:
        """Return what a server with these names offers; of a certain `age`, to be one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        certificate = (
            _builder("a server of the tests", self.certificate.subject, key, age)
            .add_extension(alternatives, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = folder / f"{'-'.join(names)}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def an_authority() -> Authority:
    """Return a new authority, which no client trusts yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("an authority of the tests")
    certificate = (
        _builder("an authority of the tests", name, key, timedelta(0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _builder(
    subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, age: timedelta
) -> x509.CertificateBuilder:
    begin = datetime.now(tz=UTC) - timedelta(hours=1) - age  # noqa: TID251 - certificates know no other time
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _YEAR)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
