"""Ways to make a client dial what it should not: each must end without a connection.

Sources: the notations of addresses that libc's inet_aton accepts, IANA's special-purpose registries, the clouds'
metadata services, and the usual tricks (redirects, answers with several addresses, names that change their mind).
"""


# ruff: noqa: S104 - nothing binds here

# Literals that stand for the tests' own listener on 127.0.0.1 or ::1, in every notation that libc or a URL knows.
LISTENER_NAMES = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.000.000.001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "0X7F000001",
    "2130706433",
    "017700000001",
    "127.0.0x0.0x1",
    "127.0.0.1.",
    "127.0.0.2",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "0x0",
    "00000000",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "\uff11\uff12\uff17.0.0.1",
    "127\u30020.0.1",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
]

# What no binding may reach, whatever it says.
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.0.8",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::100.64.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b::168.63.129.16",
    "64:ff9b::100.100.100.200",
    "64:ff9b::192.0.0.192",
    "64:ff9b:1::a00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::7f00:1",
    "2001:2::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:a9fe:a9fe::1",
    "fd00:42::42",
    "fd00:100::100:200",
    "",
    "127.1",
    "localhost",
]

# What only `network: Private` may reach.
PRIVATE = [
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "fc00::1",
    "fd12:3456:789a::1",
]

PUBLIC = ["1.1.1.1", "8.8.8.8", "9.9.9.9", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "2001:4860::8"]
PUBLIC += ["64:ff9b::8.8.8.8", "64:ff9b::1.1.1.1"]  # as clusters with IPv6 alone reach them

# Answers of a name server: all addresses of an answer must be allowed, whatever their order.
ANSWERS = {
    "loopback behind a public address": ["93.184.215.14", "127.0.0.1"],
    "loopback before a public address": ["127.0.0.1", "93.184.215.14"],
    "loopback on IPv6 next to a public address": ["93.184.215.14", "::1"],
    "nothing but loopback": ["127.0.0.1"],
    "loopback in IPv6's clothes": ["::ffff:127.0.0.1"],
    "unspecified": ["0.0.0.0"],
    "metadata behind a public address": ["93.184.215.14", "169.254.169.254"],
    "private behind a public address": ["93.184.215.14", "10.0.0.1"],
}

# Where an allowed server may point with `Location`; {port} is the listener's.
LOCATIONS = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "//127.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f.1:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_",
    "/elsewhere",
]
REDIRECTS = [300, 301, 302, 303, 305, 307, 308]
