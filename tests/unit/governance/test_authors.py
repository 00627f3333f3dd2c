"""Who changed a spec last: the user whom the API server names, else a field manager that no one vouches for."""

import pytest

from interlock.api.shared_types import ObjectMeta
from interlock.governance.authors import Author, author_of
from tests.requirements import requirement

STAMPED = {"interlock.dev/spec-author": "ada@example.com"}
MANAGER = [{"manager": "argocd-controller"}]
ADA = Author("ada@example.com", is_vouched=True)
ARGOCD, UNKNOWN = (Author(name, is_vouched=False) for name in ("argocd-controller", ""))


@requirement("revision.author")
@pytest.mark.parametrize(
    ("annotations", "managed", "is_checked", "author"),
    [
        (STAMPED, MANAGER, True, ADA),
        (STAMPED, [], True, ADA),
        (STAMPED, MANAGER, False, ARGOCD),
        (STAMPED, [], False, UNKNOWN),
        ({}, MANAGER, True, ARGOCD),
        ({"interlock.dev/spec-author": ""}, MANAGER, True, ARGOCD),
        ({}, [], True, UNKNOWN),
    ],
)
def test_only_a_name_that_admission_checks_is_vouched_for(
    annotations: dict[str, str], managed: list[dict[str, str]], *, is_checked: bool, author: Author
) -> None:
    metadata = ObjectMeta.model_validate({"name": "x", "annotations": annotations, "managedFields": managed})

    assert author_of(metadata, is_checked=is_checked) == author
