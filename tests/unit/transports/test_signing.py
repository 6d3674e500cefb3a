"""Requests to Bedrock without an API key are signed by botocore, and a server can check the signature."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from urllib.parse import quote

import pytest

from aurora_swarm.errors import AuthenticationError, RequestRejectedError, UsageError
from aurora_swarm.testing import answers, provider_answers
from aurora_swarm.testing.faulty_server import Answer, FaultyServer, Request
from aurora_swarm.testing.transport_contract import call_of
from aurora_swarm.transports.open import open_transport

pytest.importorskip("botocore")

MODEL = "anthropic.claude-test-v1:0"
SECRET, TOKEN = "wJalrXUtnFEMI-canary", "session-token-canary-0123456789"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def signature_of(request: Request) -> str:
    """As Amazon computes it from what arrived.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
    """
    scope, signed = (request.headers["authorization"].split(f"{name}=")[1].split(",")[0] for name in SCOPE)
    names = signed.split(";")
    path = quote(request.path, safe="/~")  # encoded once more, as for every service but S3
    lines = "".join(f"{name}:{request.headers[name]}\n" for name in names)
    hashed = hashlib.sha256(request.body).hexdigest()
    canonical = f"{request.method}\n{path}\n\n{lines}\n{signed}\n{hashed}"
    _, date, region, service, end = scope.split("/")
    key = f"AWS4{SECRET}".encode()
    for part in (date, region, service, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    told = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{date}/{region}/{service}/{end}\n{digest}"
    return hmac.new(key, told.encode(), hashlib.sha256).hexdigest()


SCOPE = ("Credential", "SignedHeaders")


async def test_whole_and_streamed_requests_carry_a_right_signature(credentials: None) -> None:
    def script(request: Request) -> Answer:
        value = provider_answers.converse("yes")
        return Answer(
            provider_answers.converse_stream(value) if "stream" in request.path else answers.encode(value),
            framing="chunked",
        )

    async with FaultyServer(script) as server:
        transport = open_transport("bedrock")
        assert (await transport.send(server.endpoint, call_of("x", MODEL), timeout_s=5)).text == "yes"
        *_, last = [delta async for delta in transport.stream(server.endpoint, call_of("x", MODEL), timeout_s=5)]
        await transport.aclose()
    assert last.reply is not None
    assert last.reply.text == "yes"
    assert len(server.requests) == 2
    for request in server.requests:
        told = request.headers["authorization"]
        assert "AKIDEXAMPLE/" in told
        assert "/eu-central-1/bedrock/aws4_request" in told
        assert request.headers["x-amz-security-token"] == TOKEN
        assert told.endswith(f"Signature={signature_of(request)}")


async def test_a_session_token_never_stands_in_an_error(credentials: None) -> None:
    def echo(request: Request) -> Answer:
        return Answer(answers.encode({"message": f"canonical: {request.headers['x-amz-security-token']}"}), 403)

    async with FaultyServer(echo) as server:
        transport = open_transport("bedrock")
        with pytest.raises(AuthenticationError, match=r"\*\*\*") as whole:
            await transport.send(server.endpoint, call_of("x", MODEL), timeout_s=5)
        with pytest.raises(AuthenticationError, match=r"\*\*\*") as streamed:
            [_ async for _ in transport.stream(server.endpoint, call_of("x", MODEL), timeout_s=5)]
        await transport.aclose()
    assert "canary" not in f"{whole.value!r} {whole.value.as_dict()} {streamed.value!r} {streamed.value.as_dict()}"


async def test_a_model_is_named_before_anything_is_signed(credentials: None) -> None:
    async with FaultyServer() as server:
        transport = open_transport("bedrock")
        with pytest.raises(RequestRejectedError, match="by name"):
            await transport.send(server.endpoint, call_of("x"), timeout_s=5)
        await transport.aclose()
    assert server.requests == []


def test_without_credentials_it_is_said_what_to_do(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UsageError, match="no credentials") as caught:
        open_transport("bedrock")
    assert "AWS_BEARER_TOKEN_BEDROCK" in caught.value.remedy


def test_without_botocore_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UsageError, match="botocore") as caught:
        open_transport("bedrock")
    assert "aurora-swarm[bedrock]" in caught.value.remedy
    open_transport("bedrock", api_key="k")
