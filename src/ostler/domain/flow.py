"""What rules may ask about the flow of information through a call: whose words its arguments are, and where they go."""

from collections.abc import Set as AbstractSet

import msgspec

from ostler.domain.addresses import addresses_in, contents_of, destinations_of, links_in
from ostler.domain.constraint.facts import Facts
from ostler.domain.provenance import Provenance
from ostler.domain.tool import ToolSpec


def with_flow(facts: Facts, spec: ToolSpec, heard: Provenance, uses: AbstractSet[str] | None = None) -> Facts:
    """`facts` of a call of `spec`, with what its arguments and `heard`, all that was said before it, add to them.

    `uses` are the names that the rules read (`destinations`, `dictated` …); what they do not read is left out. None is
    all. `args` must be there already.
    """

    def is_read(name: str) -> bool:
        return uses is None or name in uses

    arguments = facts.args
    return msgspec.structs.replace(
        facts,
        tool=spec.name,
        roles=frozenset(spec.roles),
        effect=spec.effect,
        destinations=destinations_of(spec, arguments) if is_read("destinations") else (),
        contents=contents_of(spec, arguments) if is_read("contents") else (),
        dictated=heard.dictated(arguments) if is_read("dictated") else (),
        addresses=addresses_in(arguments) if is_read("addresses") else (),
        links=links_in(arguments) if is_read("links") else (),
        labels=heard.labels,
        sources=heard,
    )
