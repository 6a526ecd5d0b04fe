"""Diagnoses failed TLS connections, in one line that names the setting or the file to look at."""

import asyncio
import ssl
from collections.abc import Sequence

from coe.platform.tls import TlsSettings

_TIMEOUT_S = 2.0
# A server rejects a missing certificate only after the handshake. If it accepts, it waits for the client to speak.
_REFUSAL_S = 0.5

_EXPIRED, _NOT_YET = 10, 9
_OTHER_HOST = (62, 64)
# A server that is starting or stopping does this too.
_CLOSES = "it closes the connection when TLS begins, as a port without TLS does, or one that wants a certificate"
_REFUSES = "it closes the connection after the handshake: it asks for a certificate that it trusts? COE_TLS_CERT: "
_SPEAKS_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def explain(error: BaseException) -> str:
    """The meaning of a TLS error, or of an error caused by one; empty for any other error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return ""
    tls = TlsSettings()
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _distrusted(cause, tls)
    if isinstance(cause, ssl.SSLEOFError):
        return _CLOSES
    reason = cause.reason or str(cause)
    if reason in _SPEAKS_NO_TLS:
        return "it speaks no TLS there"
    if "ALERT" not in reason:
        return f"TLS fails: {reason}"
    if tls.cert is None:
        return f"it asks for a certificate: set COE_TLS_CERT and COE_TLS_KEY ({reason})"
    return f"it refuses the certificate of COE_TLS_CERT ({tls.cert}): {_own_fault(tls) or reason}"


def _distrusted(error: ssl.SSLCertVerificationError, tls: TlsSettings) -> str:
    if error.verify_code == _EXPIRED:
        return "its certificate has expired"
    if error.verify_code == _NOT_YET:
        return "its certificate is not valid yet, or the clock of this machine is wrong"
    if error.verify_code in _OTHER_HOST:
        return f"its certificate is for another host: {error.verify_message.rstrip('.')}"
    whom = f"an authority of COE_TLS_CA ({tls.ca})" if tls.ca else "an authority of this system: set COE_TLS_CA"
    return f"its certificate is not signed by {whom} ({error.verify_message})"


def _shown(tls: TlsSettings) -> str:
    if tls.cert is None:
        return "not set"
    fault = _own_fault(tls)
    return f"{tls.cert}, {fault}" if fault else str(tls.cert)


def _own_fault(tls: TlsSettings) -> str:
    """Why our own certificate is expired or not yet valid, or "". Determined by a handshake with ourselves.

    Servers that reject a certificate seldom say why.
    """
    context = ssl.create_default_context(cafile=tls.ca)
    context.check_hostname = False
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(back, there)
    server = tls.server_context(mutual=False).wrap_bio(there, back, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLCertVerificationError as error:
            return {_EXPIRED: "it has expired", _NOT_YET: "it is not valid yet"}.get(error.verify_code, "")
        except ssl.SSLWantReadError:
            continue
    return ""


async def handshake(host: str, port: int, context: ssl.SSLContext, protocols: Sequence[str] = ()) -> str:
    """Why a TLS connection fails; empty if it succeeds or there is no response.

    `protocols`: the protocols to offer in the handshake (ALPN).
    """
    if protocols:
        context.set_alpn_protocols(protocols)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ConnectionResetError:
        return _CLOSES
    except ssl.SSLError as error:
        return explain(error)
    except (OSError, TimeoutError):
        return ""
    try:
        async with asyncio.timeout(_REFUSAL_S):
            closed = not await reader.read(1)
    except ssl.SSLError as error:
        return explain(error)
    except TimeoutError:
        return ""
    except OSError:
        closed = True
    finally:
        writer.transport.abort()
    return _REFUSES + _shown(TlsSettings()) if closed else ""


def lasts(trouble: str) -> bool:
    """Whether the problem is permanent, so that waiting cannot fix it."""
    return bool(trouble) and not trouble.startswith("it closes the connection")


async def speaks_tls(host: str, port: int) -> bool:
    """Whether the server accepts a TLS handshake. For servers that do not respond without TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
