"""Runs where LiteLLM is, without probewatch: a Router and a proxy with the guardrail; prints what they say.

Arguments: URL of the service, an account that it has flagged, another account.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

MASTER = "sk-master-1234"
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": MASTER, "NO_DOCS": "True"}
URL, BAD, GOOD = sys.argv[1:]
NOWHERE = "http://127.0.0.1:1"
SECRET = "What is sent to a model says."

import httpx  # noqa: E402
import litellm  # noqa: E402
from litellm.exceptions import GuardrailRaisedException  # noqa: E402

from probewatch_client import settings  # noqa: E402
from probewatch_client.litellm import ProbewatchGuardrail  # noqa: E402

MODEL = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_key": "none", "mock_response": "Fine."}}


settings.MOST_SECONDS = 30.0  # so that what is said does not hang on how busy this machine is


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{SECRET} {text}"}]


async def by_router() -> dict[str, object]:
    """A Router in somebody's own program, which says in `metadata` whose request it is."""
    guard = ProbewatchGuardrail(
        URL,
        guardrail_name="probewatch",
        event_hook="pre_call",
        default_on=True,
        enforce=True,
        account="body:user",
        timeout=30,
    )
    litellm.callbacks = [guard]
    router = litellm.Router(model_list=[MODEL])
    said: dict[str, object] = {}
    for name, user in (("bad", BAD), ("good", GOOD)):
        try:
            answer = await router.acompletion("m", messages("router"), user=user, guardrails=["probewatch"])
            said[name] = answer.choices[0].message.content
        except GuardrailRaisedException as error:
            said[name] = f"{error.status_code} {error}"
    said["counts"] = vars(guard.watch.counts())
    await guard.watch.close()
    litellm.callbacks = []
    return said


CONFIG = """
model_list:
  - model_name: m
    litellm_params: {model: openai/m, api_key: none, mock_response: "Fine."}
guardrails:
"""
GUARDRAIL = """
  - guardrail_name: %(name)s
    litellm_params:
      guardrail: probewatch_client.litellm.ProbewatchGuardrail
      mode: %(mode)s
      default_on: %(always)s
      api_base: %(url)s
      api_key: os.environ/PROBEWATCH_KEY
      enforce: %(enforce)s
      fail_closed: %(closed)s
      account: %(account)s
      timeout: 30
"""
GUARDRAILS = (
    {"name": "watching", "always": "true", "enforce": "false", "account": "key"},
    {"name": "before"},
    {"name": "beside", "mode": "during_call"},
    {"name": "open", "url": NOWHERE},
    {"name": "closed", "url": NOWHERE, "closed": "true"},
)
USUAL = {
    "mode": "pre_call",
    "always": "false",
    "url": URL,
    "enforce": "true",
    "closed": "false",
    "account": "body:user",
}
ASKED = (
    ("watching bad", BAD, [], "/v1/chat/completions"),
    ("before bad", BAD, ["before"], "/v1/chat/completions"),
    ("before good", GOOD, ["before"], "/v1/chat/completions"),
    ("beside bad", BAD, ["beside"], "/v1/chat/completions"),
    ("open good", GOOD, ["open"], "/v1/chat/completions"),
    ("closed good", GOOD, ["closed"], "/v1/chat/completions"),
    ("no prompt", BAD, ["before"], "/v1/embeddings"),
)


async def by_proxy() -> dict[str, object]:
    """LiteLLM's proxy, its own application with its own configuration."""
    from litellm.proxy.proxy_server import app, initialize

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG + "".join(GUARDRAIL % {**USUAL, **one} for one in GUARDRAILS), encoding="utf-8")
        await initialize(config=str(config))
        said: dict[str, object] = {}
        transport = httpx.ASGITransport(app)
        headers = {"authorization": f"Bearer {MASTER}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy", headers=headers) as client:
            for name, user, guardrails, path in ASKED:
                text = {"input": "x"} if path.endswith("embeddings") else {"messages": messages(name)}
                body = {"model": "m", "user": user, "guardrails": guardrails, **text}
                answer = await client.post(path, json=body, timeout=60)
                said[name] = [answer.status_code, answer.text]
        guards = [one for one in litellm.callbacks if isinstance(one, ProbewatchGuardrail)]
        for guard in guards:
            guard.watch.sender.close(0.5 if guard.guardrail_name in ("open", "closed") else 30)
            await guard.watch.close()
        said["counts"] = {guard.guardrail_name: vars(guard.watch.counts()) for guard in guards}
        return said


async def main() -> None:
    print("SAID", json.dumps({"router": await by_router(), "proxy": await by_proxy()}))


asyncio.run(main())
