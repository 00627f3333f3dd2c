"""Which items of a server's lists the agent may see: those of which some call could pass."""

from interlock_contract.bundle import Bundle, BundleResource, BundleSource, BundleTool
from interlock_contract.mapping import find_named, find_resource, find_template
from interlock_guard.decision.decide import check_grants, find_source, unmapped_tool
from interlock_guard.decision.scope import check_scope, declares_scope


def may_list_tool(bundle: Bundle, source: str, name: str) -> bool:
    """Return True if a list may show the tool: some call of it could be allowed."""
    served = find_source(bundle, source)
    if served is None:
        return False
    return _may_show(bundle, served, find_named(served.tools, name) or unmapped_tool(served, name))


def passes_unmapped(source: BundleSource, name: str) -> bool:
    """Return True if a tool that is not mapped passes nevertheless."""
    return find_named(source.tools, name) is None and unmapped_tool(source, name) is not None


def may_list_prompt(bundle: Bundle, source: str, name: str) -> bool:
    """Return True if a list may show the prompt: it could be got with some arguments."""
    served = find_source(bundle, source)
    return served is not None and _may_show(bundle, served, find_named(served.prompts, name))


def may_list_resource(bundle: Bundle, source: str, uri: str) -> bool:
    """Return True if a list may show the resource and its changes are notified: it may be read."""
    served = find_source(bundle, source)
    return served is not None and _may_show(bundle, served, find_resource(served.resources, uri))


def may_list_template(bundle: Bundle, source: str, uri_template: str) -> bool:
    """Return True if a list may show the template: the resources that it stands for may be read."""
    served = find_source(bundle, source)
    return served is not None and _may_show(bundle, served, find_template(served.resources, uri_template))


def _may_show(bundle: Bundle, source: BundleSource, entry: BundleTool | BundleResource | None) -> bool:
    if entry is None or (source.mode != "Audit" and check_grants(source, entry, entry.operation) is not None):
        return False
    if isinstance(entry, BundleResource):
        return check_scope(bundle.scope, entry, None) is None
    return declares_scope(bundle.scope, entry)
