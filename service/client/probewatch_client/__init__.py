"""probewatch over HTTP: a typed client, and hooks where traffic to models already flows.

errors -> results, reading, events -> core (no I/O) -> client (`Client`, `AsyncClient`)
client -> settings -> sender -> watch -> asgi, ext_authz, otlp, litellm (each imports its host when it is used)
"""

from probewatch_client.client import AsyncClient, Client
from probewatch_client.core import Retry
from probewatch_client.errors import (
    BadAnswerError,
    BadInputError,
    BusyError,
    ConflictError,
    NoAnswerError,
    NotAllowedError,
    NotFoundError,
    ProbewatchError,
    Problem,
    ProblemError,
    RefusedError,
    ServerFaultError,
)
from probewatch_client.events import Event
from probewatch_client.results import (
    Account,
    AccountDetail,
    Campaign,
    CampaignDetail,
    Failure,
    KnownTemplate,
    Loaded,
    Outcome,
    PromptLabel,
    Review,
    Score,
    Standing,
    Template,
    TemplateList,
)

__all__ = [
    "Account",
    "AccountDetail",
    "AsyncClient",
    "BadAnswerError",
    "BadInputError",
    "BusyError",
    "Campaign",
    "CampaignDetail",
    "Client",
    "ConflictError",
    "Event",
    "Failure",
    "KnownTemplate",
    "Loaded",
    "NoAnswerError",
    "NotAllowedError",
    "NotFoundError",
    "Outcome",
    "ProbewatchError",
    "Problem",
    "ProblemError",
    "PromptLabel",
    "RefusedError",
    "Retry",
    "Review",
    "Score",
    "ServerFaultError",
    "Standing",
    "Template",
    "TemplateList",
]
