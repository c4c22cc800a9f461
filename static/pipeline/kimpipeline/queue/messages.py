"""What the queue has, checked when it is read: updates and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from kimpipeline.errors import MessageError
from kimpipeline.kim.kimid import MODELS, TESTS, JobId, KimId, job_id, kind

Priority = Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)]
Line = Annotated[str, Field(max_length=2000)]
LOG = 12_000  # most characters of a failed job's log


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Update(Message):
    """An item is new, or something that belongs to it has changed.

    The lowest ``priority`` runs first. ``pending`` only logs how many pairs there are.
    """

    kimid: KimId
    priority: Priority = 2**16
    status: Literal["approved", "pending"] = "approved"


class Job(Message):
    """A Test to run with a Model; ``items`` are those that the two need, sorted.

    ``given`` has the text of the results.edn that the Test needs, by the Test that it comes from.
    """

    job: JobId
    test: KimId
    model: KimId
    items: Annotated[tuple[KimId, ...], Field(max_length=100)] = ()
    given: dict[KimId, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_id(self) -> Self:
        if kind(self.test) not in TESTS or kind(self.model) not in MODELS:
            raise ValueError("a job is a Test with a Model")
        if self.job != job_id(self.test, self.model, self.items):
            raise ValueError("the job's id does not match its items")
        return self


AnyMessage = TypeVar("AnyMessage", bound=Message)


def parse(kind_of: type[AnyMessage], fields: Mapping[str, object]) -> AnyMessage:
    """A message of the given kind.

    Raises:
        MessageError: the fields are of no such message.
    """
    try:
        return kind_of.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        reason = first["msg"].removeprefix("Value error, ").replace("\n", " ")
        name = kind_of.__name__.lower()
        raise MessageError(f"no {name}: {f'{where}: ' if where else ''}{reason}") from error
