"""The functions of TLS libraries that are attached to, and what each is to the BPF program (enum tls_function)."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple


class Function(NamedTuple):
    """One function: its number in bpf/contract.h, and whether its return is attached to as well."""

    number: int
    returns: bool = True


READ, READ_EX, WRITE, WRITE_EX, WRITE_EX2, SENDFILE, RECEIVE = (Function(n) for n in range(1, 8))
HANDSHAKE, CONNECT, ACCEPT, GET_ERROR, WITHIN = (Function(n) for n in range(8, 13))
BEGIN_CLIENT, BEGIN_SERVER, END, SHARE = (Function(n, returns=False) for n in range(13, 17))
# OpenSSL goes on in a function of the session's own; where calls on sockets end is all that depends on this return.
MAY_LEAP = (HANDSHAKE, CONNECT, ACCEPT)
# OpenSSL 1.1 and 3, LibreSSL, BoringSSL
OPENSSL = {
    "SSL_read": READ,
    "SSL_read_ex": READ_EX,
    "SSL_write": WRITE,
    "SSL_write_ex": WRITE_EX,
    "SSL_write_ex2": WRITE_EX2,
    "SSL_sendfile": SENDFILE,
    "SSL_peek": WITHIN,
    "SSL_peek_ex": WITHIN,
    "SSL_do_handshake": HANDSHAKE,
    "SSL_connect": CONNECT,
    "SSL_accept": ACCEPT,
    "SSL_get_error": GET_ERROR,
    "SSL_set_connect_state": BEGIN_CLIENT,
    "SSL_set_accept_state": BEGIN_SERVER,
    "SSL_clear": END,
    "SSL_free": END,
    "SSL_up_ref": SHARE,
}
GNUTLS = {
    "gnutls_record_recv": RECEIVE,
    "gnutls_record_send": WRITE,
    "gnutls_record_send2": WRITE,
    "gnutls_record_uncork": WITHIN,  # sends again, by gnutls_record_send, what was said to be sent
    "gnutls_handshake": HANDSHAKE,
    "gnutls_deinit": END,
}
BY_NAME = OPENSSL | GNUTLS
# Of Go's handshakes the return counts too: their calls on the socket are the session's.
GO = {
    "crypto/tls.(*Conn).Read": READ,
    "crypto/tls.(*Conn).Write": WRITE,
    "crypto/tls.(*Conn).clientHandshake": BEGIN_CLIENT._replace(returns=True),
    "crypto/tls.(*Conn).serverHandshake": BEGIN_SERVER._replace(returns=True),
    "crypto/tls.(*Conn).Close": END,
}
NUMBERS = range(1, 17)
ENTERED = {  # the programs at entries, and the functions that they are at
    "on_tls_enter": sorted({one.number for one in BY_NAME.values()}),
    "on_go_enter": sorted({one.number for one in GO.values()}),
}
INDISPENSABLE = (("SSL_read", "SSL_write"), ("gnutls_record_recv", "gnutls_record_send"),
                 ("crypto/tls.(*Conn).Read", "crypto/tls.(*Conn).Write"))  # fmt: skip


def are_enough(names: Container[str]) -> bool:
    """Whether a file with these functions can be followed."""
    return any(read in names and write in names for read, write in INDISPENSABLE)
