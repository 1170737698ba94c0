"""What campaigns do, in the terms of MITRE ATLAS: the techniques that exports cite, and what each means here."""

from __future__ import annotations

from dataclasses import dataclass

EXTRACT, ACCESS, PROXIES = range(3)


@dataclass(frozen=True)
class Technique:
    """`id`, `name`: as in ATLAS; `meaning`: what it says of a campaign that probewatch found."""

    id: str
    name: str
    meaning: str

    @property
    def is_sub(self) -> bool:
        """Whether it is a sub-technique."""
        return self.id.count(".") > 1

    @property
    def url(self) -> str:
        return f"https://atlas.mitre.org/techniques/{self.id}"


TECHNIQUES = (
    Technique(
        "AML.T0024.002",
        "Extract AI Model",
        "Answers of a model are gathered with templated prompts, to train another model on them.",
    ),
    Technique(
        "AML.T0040",
        "AI Model Inference API Access",
        "It is done by accounts that have access to the model's interface, as its customers have.",
    ),
    Technique(
        "AML.T0008.005",
        "AI Service Proxies",
        "Accounts that act as one may have been had from a reseller of access. Prompts do not show whether they were: "
        "what is known is only that the accounts share templates.",
    ),
)
"""At EXTRACT, ACCESS and PROXIES."""
