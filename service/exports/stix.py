"""A labelled run as a STIX 2.1 bundle: campaigns, the signatures behind them, techniques, accounts as pseudonyms.

    report_data.Selected, signatures -> **stix** -> JSON. Needs the exports extra.

Ids are UUIDv5 of what makes an object the one it is, times are those of events: the same run gives the same bytes, and
a run that has grown gives later versions of the same objects. What ships with probewatch, and the techniques, are the
same objects from every exporter, so that a platform that gets two exports sees what they have in common.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stix2

from classifier.types import Tier
from service.exports.atlas import ACCESS, EXTRACT, PROXIES, TECHNIQUES
from service.exports.carried import described, digest_of
from service.exports.pseudonyms import Pseudonyms
from service.exports.stix_parts import PROJECT, PUBLISHED, common_objects, extension_of, id_of, pattern_id
from service.exports.tlp import Tlp
from service.report_types import Account, Campaign, Selected, TemplateUse
from service.report_words import aims_of, counted
from service.template_words import Listed

_MOST = 999_999_999
"""What STIX allows a count to be."""
_MARKINGS = {
    Tlp.CLEAR: stix2.TLP_WHITE,
    Tlp.GREEN: stix2.TLP_GREEN,
    Tlp.AMBER: stix2.TLP_AMBER,
    Tlp.RED: stix2.TLP_RED,
}


@dataclass(frozen=True)
class Exporter:
    """Who exports, and to whom it may be passed on. `encoder`: digest of the one behind local signatures' vectors."""

    name: str
    pseudonyms: Pseudonyms
    tlp: Tlp
    encoder: str

    @property
    def id(self) -> str:
        return id_of("identity", self.pseudonyms.exporter(self.name))

    def own(self, type: str, *parts: str, created: datetime, modified: datetime | None = None) -> dict[str, Any]:
        """What all objects that it makes have, `parts` being what makes this one the one it is."""
        return {
            "id": id_of(type, self.id, *parts),
            "created_by_ref": self.id,
            "created": created,
            "modified": modified if modified is not None else created,
            "object_marking_refs": [_MARKINGS[self.tlp].id],
        }


def stix_bundle(selected: Selected, listed: Mapping[str, Listed], exporter: Exporter) -> bytes:
    """The bundle, as UTF-8. `listed`: the signatures that the run may name, by their ids."""
    campaigns = sorted(selected.campaigns, key=lambda campaign: campaign.campaign_id)
    used = [listed[id] for id in sorted({use.template_id for use in selected.uses})]
    accounts = {account.account_id: _account(account, exporter) for account in selected.accounts}
    objects = [
        *common_objects(),
        _MARKINGS[exporter.tlp],
        _identity(exporter),
        *(_campaign(campaign, selected, exporter) for campaign in campaigns),
        *(_indicator(one, exporter) for one in used),
        *sorted(accounts.values(), key=lambda account: str(account.id)),
    ]
    for campaign in campaigns:
        objects += _seen(campaign, selected, accounts, exporter)
    objects += _seen(None, selected, accounts, exporter)
    objects += [_use(use, listed[use.template_id], selected, exporter) for use in selected.uses]
    objects += _relations(campaigns, used, selected, exporter)
    content = [json.loads(item.serialize()) for item in objects]
    bundle = {"type": "bundle", "id": id_of("bundle", json.dumps(content)), "objects": content}
    return (json.dumps(bundle, indent=1, ensure_ascii=False) + "\n").encode()


def _identity(exporter: Exporter) -> Any:
    own = exporter.own("identity", created=PUBLISHED)
    del own["created_by_ref"]
    return stix2.Identity(**own | {"id": exporter.id}, name=exporter.name, identity_class="organization")


def _campaign(campaign: Campaign, selected: Selected, exporter: Exporter) -> Any:
    accounts, prompts = counted(campaign.n_accounts, "account"), counted(campaign.n_prompts, "prompt")
    return stix2.Campaign(
        **exporter.own(
            "campaign", campaign.campaign_id, created=_day(campaign.first_seen), modified=selected.last_seen
        ),
        name=campaign.campaign_id,
        description=f"{accounts} that share templates sent {prompts} made with them.",
        objective=f"Answers of a model to train another on: {aims_of(campaign.capabilities)}.",
        first_seen=campaign.first_seen,
        last_seen=campaign.last_seen,
        extensions=extension_of(
            n_accounts=campaign.n_accounts,
            n_prompts=campaign.n_prompts,
            capabilities=campaign.capabilities,
            techniques=campaign.techniques,
            families=campaign.template_families,
            log10_e=campaign.log10_e,
            flagged_at=campaign.flagged_at,
            bundle_id=selected.facts.bundle_id,
            catalogue_id=selected.facts.catalogue_id,
        ),
    )


def _indicator(listed: Listed, exporter: Exporter) -> Any:
    facts = listed.signature.facts
    is_public = facts.tier is Tier.PUBLIC
    honest = "honest accounts send it too" if is_public else "honest accounts practically never send it"
    return stix2.Indicator(
        **_origin(listed, "indicator", exporter),
        name=f"probewatch signature {facts.id}",
        description=f"A prompt made with a template of the family {facts.family}; {honest}.",
        indicator_types=["anomalous-activity" if is_public else "malicious-activity"],
        pattern=f"signature {facts.id} {digest_of(listed.signature)}",
        pattern_type="probewatch",
        pattern_version="1.0.0",
        valid_from=_since(listed),
        extensions=extension_of(**described(listed, exporter.encoder)),
    )


def _origin(listed: Listed, type: str, exporter: Exporter, *parts: str) -> dict[str, Any]:
    """What an object about a signature has: the project's own where it ships."""
    parts = (listed.signature.facts.id, digest_of(listed.signature), *parts)
    if listed.origin is not None:
        return exporter.own(type, *parts, created=_since(listed))
    return {"id": id_of(type, *parts), "created_by_ref": PROJECT, "created": PUBLISHED, "modified": PUBLISHED}


def _since(listed: Listed) -> datetime:
    return datetime.fromisoformat(listed.origin.since) if listed.origin is not None else PUBLISHED


def _account(account: Account, exporter: Exporter) -> Any:
    return stix2.UserAccount(
        user_id=exporter.pseudonyms.account(account.account_id),
        object_marking_refs=[_MARKINGS[exporter.tlp].id],
        extensions=extension_of(
            decision=account.decision,
            basis=account.basis,
            capabilities=account.capabilities,
            n_prompts=account.n_prompts,
            log10_max_e=account.log10_max_e,
            flagged_at=account.flagged_at,
        ),
    )


def _seen(
    campaign: Campaign | None, selected: Selected, accounts: Mapping[str, Any], exporter: Exporter
) -> Iterator[Any]:
    """The accounts of a campaign, or of none, as observed; and that the campaign was sighted in what they sent."""
    id = campaign.campaign_id if campaign is not None else None
    members = [account for account in selected.accounts if account.campaign_id == id]
    observed = [_observed(members, id, selected, accounts, exporter)] if members else []
    yield from observed
    if campaign is not None:
        about = str(id_of("campaign", exporter.id, campaign.campaign_id))
        yield stix2.Sighting(
            **exporter.own("sighting", about, created=_day(campaign.first_seen), modified=selected.last_seen),
            sighting_of_ref=about,
            observed_data_refs=[str(item.id) for item in observed] or None,
            where_sighted_refs=[exporter.id],
            first_seen=campaign.first_seen,
            last_seen=campaign.last_seen,
            count=min(campaign.n_prompts, _MOST),
        )


def _observed(
    members: Sequence[Account], id: str | None, selected: Selected, accounts: Mapping[str, Any], exporter: Exporter
) -> Any:
    first = min(account.first_seen for account in members)
    return stix2.ObservedData(
        **exporter.own("observed-data", str(id), created=_day(first), modified=selected.last_seen),
        first_observed=first,
        last_observed=max(account.last_seen for account in members),
        number_observed=min(sum(account.n_prompts for account in members), _MOST),
        object_refs=sorted(str(accounts[account.account_id].id) for account in members),
    )


def _use(use: TemplateUse, listed: Listed, selected: Selected, exporter: Exporter) -> Any:
    """That a signature was sighted in what accounts of a campaign, or of none, sent."""
    about = str(_origin(listed, "indicator", exporter)["id"])
    day = _day(use.first_seen)
    return stix2.Sighting(
        **exporter.own(
            "sighting", about, str(use.campaign_id), f"{day:%Y-%m-%d}", created=day, modified=selected.last_seen
        ),
        sighting_of_ref=about,
        where_sighted_refs=[exporter.id],
        first_seen=use.first_seen,
        last_seen=use.last_seen,
        count=min(use.n_prompts, _MOST),
        extensions=extension_of(n_accounts=use.n_accounts, campaign_id=use.campaign_id),
    )


def _relations(
    campaigns: Sequence[Campaign], used: Sequence[Listed], selected: Selected, exporter: Exporter
) -> Iterator[Any]:
    """Campaign uses techniques; signature indicates technique, and the campaigns that its family is behind."""
    for campaign in campaigns:
        source, created = id_of("campaign", exporter.id, campaign.campaign_id), _day(campaign.first_seen)
        for verb, number in (("uses", EXTRACT), ("uses", ACCESS), ("related-to", PROXIES)):
            own = exporter.own("relationship", source, verb, TECHNIQUES[number].id, created=created)
            yield _relation(own, source, verb, pattern_id(number), TECHNIQUES[number].meaning)
    seen = {(use.template_id, use.campaign_id) for use in selected.uses}
    for listed in used:
        facts, source = listed.signature.facts, _origin(listed, "indicator", exporter)["id"]
        own = _origin(listed, "relationship", exporter, TECHNIQUES[EXTRACT].id)
        yield _relation(own, source, "indicates", pattern_id(EXTRACT))
        for campaign in campaigns:
            if facts.family in campaign.template_families and (facts.id, campaign.campaign_id) in seen:
                target, created = id_of("campaign", exporter.id, campaign.campaign_id), _day(campaign.first_seen)
                own = exporter.own("relationship", source, "indicates", target, created=created)
                yield _relation(own, source, "indicates", target)


def _relation(own: Mapping[str, Any], source: str, verb: str, target: str, description: str | None = None) -> Any:
    return stix2.Relationship(
        **own, relationship_type=verb, source_ref=source, target_ref=target, description=description
    )


def _day(when: datetime) -> datetime:
    """When its day began: stays as it is when earlier events of that day come in late."""
    return when.replace(hour=0, minute=0, second=0, microsecond=0)
