"""Python's `websockets`, which knows nothing of Hybrid Connections, as listener and as sender.

What the protocol wants is written out here by hand, from its guide: tokens, commands, rendezvous.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import ssl
import sys
import time
import urllib.parse

import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

PORT = sys.argv[1]
KEYS = json.loads(os.environ["SDK_KEYS"])
TLS = ssl.create_default_context(cafile=os.environ["SDK_CA"])
ORIGIN = f"wss://localhost:{PORT}/$hc"


def token(entity, rule, key=None, life=3600):
    resource = urllib.parse.quote(f"http://localhost/{entity}", safe="")
    # Lower-case escapes: what is signed is the text as it stands.
    resource = resource.replace("%3A", "%3a").replace("%2F", "%2f")
    end = str(int(time.time()) + life)
    text = f"{resource}\n{end}".encode()
    digest = hmac.new((key or KEYS[rule]).encode(), text, hashlib.sha256).digest()
    signature = urllib.parse.quote(base64.b64encode(digest), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={end}&skn={rule}"


def url(entity, action, rule, key=None):
    quoted = urllib.parse.quote(token(entity.split("/")[0], rule, key), safe="")
    return f"{ORIGIN}/{entity}?sb-hc-action={action}&sb-hc-token={quoted}"


class Raw:
    """One end of a WebSocket, frame by frame, by which both halves can be closed on their own."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address):
        path = address.split(f"localhost:{PORT}", 1)[1]
        reader, writer = await asyncio.open_connection("localhost", int(PORT), ssl=TLS)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: localhost:{PORT}\r\nConnection: Upgrade\r\n"
        head += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        writer.write(f"{head}Sec-WebSocket-Key: {key}\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return cls(reader, writer)

    def send(self, first, payload, mask=True):
        assert len(payload) < 126
        self.writer.write(bytes([first, len(payload) | (0x80 if mask else 0)]))
        self.writer.write((b"\0\0\0\0" if mask else b"") + payload)

    async def recv(self):
        """First byte and payload of the next frame but pings, or None at the end."""
        try:
            first, size = await self.reader.readexactly(2)
            assert size < 126
            payload = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return None
        return await self.recv() if first == 0x89 else (first, payload)


async def meet_raw(control):
    sender = asyncio.ensure_future(Raw.open(url("ent", "connect", "Send")))
    accept = json.loads(await control.recv())["accept"]
    return await Raw.open(accept["address"]), await sender


TEXT, BINARY, CLOSE = 0x81, 0x82, 0x88


async def either_half_closes_and_the_other_goes_on():
    async with listen("ent") as control:
        for which in (0, 1):
            ends = await meet_raw(control)
            one, other = ends[which], ends[1 - which]
            one.send(BINARY, b"last words")
            one.send(CLOSE, b"\x03\xe8eof")
            assert await other.recv() == (BINARY, b"last words")
            assert await other.recv() == (CLOSE, b"\x03\xe8eof"), "verbatim"
            for n in range(100):
                other.send(TEXT, b"still here %d" % n)
            other.send(CLOSE, b"\x0f\xa0")
            for n in range(100):
                assert await one.recv() == (TEXT, b"still here %d" % n), "no answer of the relay's"
            assert await one.recv() == (CLOSE, b"\x0f\xa0")
            assert await one.recv() is None and await other.recv() is None


async def whoever_breaks_the_rules_is_told_and_the_other_is_cut_off():
    async with listen("ent") as control:
        for which in (0, 1):
            for bad in [
                lambda end: end.send(BINARY, b"unmasked", mask=False),
                lambda end: end.send(0xC2, b"reserved bit"),
                lambda end: end.send(0x80, b"continues nothing"),
                lambda end: end.send(0x83, b"no such opcode"),
                lambda end: end.send(0x09, b"half a ping"),
                lambda end: end.writer.write(b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0"),
            ]:
                ends = await meet_raw(control)
                bad(ends[which])
                first, payload = await ends[which].recv()
                assert (first, payload[:2]) == (CLOSE, b"\x03\xea"), payload
                assert await ends[1 - which].recv() is None, "no close is invented"
        # The channel has noticed nothing of all that.
        await (await control.ping())


async def senders_are_sent_to_the_listeners_they_name():
    def named(name):
        return open_socket(url("ent", f"listen&sb-hc-id={name}", "Listen"))

    async with named("one") as one, named("two") as two:
        for field, name, expected in [
            ("Microsoft-Relay-AllowedListeners", "zero, TWO", two),
            ("Microsoft-Relay-DisallowedListeners", "two", one),
        ]:
            for _ in range(5):
                dialling = dial("ent", additional_headers={field: name}).__aenter__()
                _, here = await meet(expected, asyncio.ensure_future(dialling))
                await here.close()
        try:
            async with dial("ent", additional_headers={"Microsoft-Relay-AllowedListeners": "x"}):
                raise AssertionError("opened")
        except InvalidStatus as refused:
            assert refused.response.status_code == 404
            assert "AllowedListeners/DisallowedListeners" in refused.response.reason_phrase


async def an_accept_that_is_not_answered_is_offered_again():
    async with listen("ent") as one, listen("ent") as two:
        sender = asyncio.ensure_future(dial("ent").__aenter__())
        offers = [json.loads(await channel.recv())["accept"] for channel in (one, two)]
        assert offers[0]["id"] != offers[1]["id"]
        there, here = await open_socket(offers[1]["address"]), await sender
        assert (await status_of(offers[0]["address"]))[0] == 410, "somebody else has it"
        await here.send("hello")
        assert await there.recv() == "hello"
        await here.close()


async def the_listener_too_many_is_refused():
    channels = [await listen("ent2").__aenter__() for _ in range(25)]
    status, phrase = await status_of(url("ent2", "listen", "Listen"))
    assert status == 403 and "MaximumListenersPerEndpoint" in phrase, (status, phrase)
    await channels[0].close()
    async with listen("ent2"):
        pass
    for channel in channels:
        await channel.close()


async def careless_urls_are_understood():
    quoted = urllib.parse.quote(token("ent", "Send"), safe="")
    async with listen("ent") as control:
        for path, seen in [
            (f"$hc/ent?null&sb-hc-token={quoted}", "$hc/ent?null&"),
            (f"%24HC/ent/v2%3Fsb-hc-action=connect&sb-hc-token={quoted}", "$hc/ent/v2?"),
            (f"$hc/ENT/a%c3b?x&&SB-HC-Action=Connect&sb-hc-token={quoted}&y&sb-hc-z",
             "$hc/ENT/a%c3b?x&&y&sb-hc-z&"),
        ]:
            address = f"wss://localhost:{PORT}/{path}"
            sender = asyncio.ensure_future(open_socket(address).__aenter__())
            accept = json.loads(await control.recv())["accept"]
            rest = accept["address"].split(f"localhost:{PORT}/", 1)[1]
            assert rest == f"{seen}sb-hc-action=accept&sb-hc-id={accept['id']}", rest
            there, here = await open_socket(accept["address"]), await sender
            await here.close()
            await there.wait_closed()


def open_socket(address, **options):
    return connect(address, ssl=TLS, max_size=None, **options)


def listen(entity):
    return open_socket(url(entity, "listen", "Listen"))


def dial(entity, **options):
    return open_socket(url(entity, "connect", "Send"), **options)


async def status_of(address):
    try:
        async with open_socket(address):
            return 101, ""
    except InvalidStatus as refused:
        return refused.response.status_code, refused.response.reason_phrase


async def meet(control, sender, **options):
    """The two ends of a relayed WebSocket."""
    accept = json.loads(await control.recv())["accept"]
    assert set(accept) == {"address", "id", "connectHeaders", "remoteEndpoint"}, accept
    assert "sb-hc-token" not in accept["address"] and "Sec-WebSocket-Key" in accept["connectHeaders"]
    assert accept["remoteEndpoint"]["port"] > 0
    return await open_socket(accept["address"], **options), await sender


async def messages_arrive_with_their_kinds_and_boundaries():
    async with listen("ent") as control:
        sender = asyncio.ensure_future(dial("ent/sub?a=1").__aenter__())
        there, here = await meet(control, sender)
        assert here.protocol.extensions == [] and there.protocol.extensions == []
        for data in ["text", "", b"binary", b"", "\u00fc" * 40_000, os.urandom(3 << 20)]:
            await here.send(data)
            assert await there.recv() == data
            await there.send(data)
            assert await here.recv() == data
        # A message of many fragments comes as many, and as one.
        await here.send([b"one", b"two", b"three"])
        assert await there.recv() == b"onetwothree"
        await (await here.ping(b"payload"))
        await (await there.ping())
        await (await control.ping())
        await here.close()
        await there.wait_closed()


async def closes_of_either_end_arrive_verbatim():
    async with listen("ent") as control:
        for code, reason in [(1000, ""), (4001, "bye"), (1001, "\u00e9" * 61)]:
            for which in (0, 1):
                ends = await meet(control, asyncio.ensure_future(dial("ent").__aenter__()))
                closing = asyncio.ensure_future(ends[which].close(code, reason))
                try:
                    await ends[1 - which].recv()
                    raise AssertionError("a message?")
                except ConnectionClosed as closed:
                    assert (closed.rcvd.code, closed.rcvd.reason) == (code, reason), closed
                await closing


async def aborts_arrive_as_aborts():
    async with listen("ent") as control:
        for which in (0, 1):
            ends = await meet(control, asyncio.ensure_future(dial("ent").__aenter__()))
            ends[which].transport.abort()
            try:
                await ends[1 - which].recv()
                raise AssertionError("a message?")
            except ConnectionClosed as closed:
                assert closed.rcvd is None, closed


async def the_listener_names_the_subprotocol():
    async with listen("ent") as control:
        sender = asyncio.ensure_future(dial("ent", subprotocols=["v5", "v4"]).__aenter__())
        there, here = await meet(control, sender, subprotocols=["v4"])
        assert (there.subprotocol, here.subprotocol) == ("v4", "v4")
        await here.close()


async def a_listener_rejects_through_the_address():
    async with listen("ent") as control:
        refused = asyncio.ensure_future(status_of(url("ent", "connect", "Send")))
        accept = json.loads(await control.recv())["accept"]
        rejection = "&sb-hc-statusCode=418&sb-hc-statusDescription=not+today"
        assert (await status_of(accept["address"] + rejection))[0] == 410
        assert await refused == (418, "not today")
        assert (await status_of(accept["address"]))[0] == 403, "the id is used up"


async def refusals_name_their_reason_and_a_tracking_id():
    for address, status, text in [
        (url("ent", "connect", "Send"), 404, "There are no listeners connected for the endpoint."),
        (url("ent", "connect", "Listen"), 401, "'Send' claim(s)"),
        (url("ent", "connect", "Send", "wrong"), 401, "InvalidSignature: "),
        (f"{ORIGIN}/ent?sb-hc-action=connect", 401, "MissingToken: "),
        (f"{ORIGIN}/ent?sb-hc-action=dance", 400, "sb-hc-action"),
    ]:
        got, phrase = await status_of(address)
        assert got == status and text in phrase and "TrackingId:" in phrase, (got, phrase)


async def a_token_is_renewed_without_a_word():
    async with listen("ent") as control:
        renew = {"renewToken": {"token": token("ent", "Listen", life=7200)}}
        await control.send(json.dumps(renew))
        await (await control.ping())
        renew["renewToken"]["token"] = token("ent2", "Listen")
        await control.send(json.dumps(renew))
        try:
            await control.recv()
            raise AssertionError("a reply?")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1008, closed
            assert closed.rcvd.reason.startswith("InvalidAudience: "), closed
            assert len(closed.rcvd.reason.encode()) <= 123


async def ask(method, path, body=b"", chunked=False):
    reader, writer = await asyncio.open_connection("localhost", int(PORT), ssl=TLS)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{framing}\r\n"
    writer.write(f"{head}ServiceBusAuthorization: {token('web', 'Send')}\r\n\r\n".encode())
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    for piece in pieces:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        writer.write(b"0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


async def requests_come_inline_or_by_a_pointer():
    """Exactly as many messages as announced, at every size around the limit."""
    async with listen("web") as control:
        for size in (0, 1, 65_535, 65_536, 65_537, 1 << 20):
            for chunked in (False, True):
                body = os.urandom(size)
                asked = asyncio.ensure_future(ask("POST", "/web/x?y=1", body, chunked))
                request = json.loads(await control.recv())["request"]
                is_pointer = "method" not in request
                assert is_pointer == (size > 65_536), (size, chunked, request)
                socket = control
                if is_pointer:
                    assert set(request) == {"address"}
                    socket = await open_socket(request["address"])
                    request = json.loads(await socket.recv())["request"]
                assert (request["method"], request["requestTarget"]) == ("POST", "/web/x?y=1")
                assert request["body"] == (size > 0)
                got = await socket.recv() if request["body"] else b""
                assert got == body, (size, chunked, len(got))
                response = {"requestId": request["id"], "statusCode": "201", "body": True}
                response["responseHeaders"] = {"X-Size": size, "X-Two": ["a", "b"]}
                await socket.send(json.dumps({"response": response}))
                await socket.send([b"an", b"swer"] if is_pointer else b"answer")
                head, answer = await asked
                assert head.startswith("HTTP/1.1 201 ") and f"X-Size: {size}" in head, head
                assert "Via: 1.1 localhost" in head and "X-Two: a" in head, head
                assert b"answer" == (answer if not is_pointer else unchunked(answer)), answer
                if is_pointer:
                    await socket.wait_closed()
                    assert socket.close_code == 1000


def unchunked(body):
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        whole, body = whole + rest[:count], rest[count + 2 :]
        if count == 0:
            return whole
    raise AssertionError("a body without its end")


async def main():
    for case in [
        messages_arrive_with_their_kinds_and_boundaries,
        closes_of_either_end_arrive_verbatim,
        aborts_arrive_as_aborts,
        the_listener_names_the_subprotocol,
        a_listener_rejects_through_the_address,
        either_half_closes_and_the_other_goes_on,
        whoever_breaks_the_rules_is_told_and_the_other_is_cut_off,
        senders_are_sent_to_the_listeners_they_name,
        an_accept_that_is_not_answered_is_offered_again,
        the_listener_too_many_is_refused,
        careless_urls_are_understood,
        a_token_is_renewed_without_a_word,
        requests_come_inline_or_by_a_pointer,
        refusals_name_their_reason_and_a_tracking_id,
    ]:
        await asyncio.wait_for(case(), 120)
        print(f"ok {case.__name__}")


asyncio.run(main())
