"""Hook for LiteLLM, proxy and Router: a guardrail. Imports LiteLLM: import it only there. Stands after `traffic`.

guardrails:
  - guardrail_name: probewatch
    litellm_params:
      guardrail: probewatch_client.litellm.ProbewatchGuardrail
      mode: pre_call
      default_on: true
      api_base: https://probewatch:8080
      api_key: os.environ/PROBEWATCH_KEY
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from litellm.exceptions import GuardrailRaisedException
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.types.guardrails import GuardrailEventHooks

from probewatch_client.errors import BadInputError
from probewatch_client.events import Event
from probewatch_client.settings import hook_settings
from probewatch_client.traffic import NOBODY, event_of_body, field_at
from probewatch_client.watch import Verdict, Watch, account_of_key

_KINDS = ("completion", "text_completion", "responses", "anthropic_messages")
_CALLS = frozenset({*_KINDS, *(f"a{kind}" for kind in _KINDS)})
_OWN = ("enforce", "fail_closed", "account", "block", "most_waiting", "most_waiting_bytes")


class ProbewatchGuardrail(CustomGuardrail):
    """Watches what LiteLLM is asked; refuses if `enforce` is on. Other settings stand beside it, as in HookSettings.

    `account`: `key`, a field of what LiteLLM knows of the caller (`user_id`, `team_id`, `org_id`, `end_user_id`,
    `key_alias`), or `body:FIELD`.
    """

    def __init__(self, api_base: str | None = None, api_key: str | None = None, **given: Any) -> None:
        if not api_base:
            raise BadInputError(
                "api_base is missing: expected the URL of the service, such as https://probewatch:8080."
            )
        ours = {name: given.pop(name) for name in _OWN if name in given}
        timeout = given.pop("timeout", None)
        self.watch = Watch(hook_settings({"url": api_base, "key": api_key, "timeout": timeout, **ours}))
        hooks = [GuardrailEventHooks.pre_call, GuardrailEventHooks.during_call]
        super().__init__(supported_event_hooks=hooks, **given)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> Exception | str | dict[str, Any] | None:
        """Before a model is asked."""
        await self._check(user_api_key_dict, data, call_type)
        return None

    async def async_moderation_hook(self, data: dict[str, Any], user_api_key_dict: Any, call_type: str) -> None:
        """While a model is asked (`mode: during_call`): its answer is held back until this has returned."""
        await self._check(user_api_key_dict, data, call_type)

    async def _check(self, caller: Any, data: Mapping[str, Any], call_type: str) -> None:
        if call_type not in _CALLS:
            return
        verdict = await self._verdict(caller, data)
        if not verdict.allowed:
            raise GuardrailRaisedException(
                guardrail_name=self.guardrail_name,
                message=verdict.sentence,
                should_wrap_with_default_message=False,
                status_code=verdict.status,
            )

    async def _verdict(self, caller: Any, data: Mapping[str, Any]) -> Verdict:
        account_id = self._account_of(caller, data)
        found = event_of_body(data, account_id) if account_id else NOBODY
        if isinstance(found, Event):
            found = replace(found, org_id=_name(caller, "org_id"), end_user_id=_name(caller, "end_user_id"))
        return await self.watch.judge(None, found) if isinstance(found, str) else await self.watch.judge(found)

    def _account_of(self, caller: Any, data: Mapping[str, Any]) -> str:
        kind, _, name = self.watch.settings.account.partition(":")
        if kind == "body":
            return field_at(data, name)
        known = getattr(caller, "api_key" if kind == "key" else kind, None)
        if not known:
            return ""
        return account_of_key(str(known)) if kind == "key" else str(known).strip()


def _name(caller: Any, attribute: str) -> str | None:
    """What LiteLLM knows of a caller, as text; None if nothing."""
    found = getattr(caller, attribute, None)
    return str(found) if found else None
