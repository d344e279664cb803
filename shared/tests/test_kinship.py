"""Messages share a batch when what its handler reads beside their bodies is the same, however it is declared."""

from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Depends, Header, Path, Query, Request, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery, HTTPBasic, HTTPBearer, OAuth2PasswordBearer
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.testing.conformance import until
from pydantic import AliasChoices, AliasGenerator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scripted import Message, ScriptedBroker

WHO = ("a", "a", "b", "b", "a")


class Sent(Message):
    """A message with headers."""

    __slots__ = ()

    @property
    def identity(self) -> None:  # type: ignore[override]
        return None

    def read_headers(self) -> Headers:
        return Headers(self.raw_message)


def sent(who: str) -> Sent:
    basic = {"a": "Basic YTph", "b": "Basic Yjpi"}[who]
    headers = [("x-tenant", who), ("cookie", f"key={who}"), ("authorization", f"Bearer {who}"), ("same", "s")]
    return Sent(who.encode(), [*headers, ("x-basic", basic)], f"in.{who}")


class Plain(BaseModel):
    x_tenant: str = ""


class ByAlias(BaseModel):
    who: str = Field("", alias="x-tenant")


class ByValidationAlias(BaseModel):
    who: str = Field("", validation_alias="x-tenant")


class ByChoices(BaseModel):
    who: str = Field("", validation_alias=AliasChoices("tenant", "x-tenant"))


class ByGenerator(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=lambda name: f"x-{name}"))
    tenant: str = ""


class Whatever(BaseModel):
    model_config = ConfigDict(extra="allow")


class Before(BaseModel):
    who: str = ""

    @model_validator(mode="before")
    @classmethod
    def take(cls, given: Any) -> Any:
        return {"who": given.get("x-tenant", "")}


class ByInit(BaseModel):
    who: str = ""

    def __init__(self, **given: Any) -> None:
        super().__init__(who=given.get("x-tenant") or "")


class Same(BaseModel):
    same: str = ""


def tenant(headers: Annotated[Plain, Header()]) -> str:
    return headers.x_tenant


def trace(headers: Annotated[Same, Header()]) -> str:
    return headers.same


def plain(headers: Annotated[str, Header()] = "") -> str:
    return headers


def both(one: Any, other: Any) -> Any:
    """Return a dependency on two that call what they read by the same name."""

    def read(first: Any = Depends(one), second: Any = Depends(other)) -> tuple[Any, Any]:
        return first, second

    return read


class Who(BaseModel):
    who: str = ""


class OwnScheme(APIKeyHeader):
    async def __call__(self, request: Request) -> str | None:
        return request.headers.get("x-tenant")


def of_address(query: Annotated[Who, Query()]) -> str:
    return query.who


def chosen(tenant: Annotated[str, Query(validation_alias=AliasChoices("who", "tenant"))] = "") -> str:
    return tenant


HEADERS: dict[str, Any] = {
    "name": Annotated[str, Header(alias="x-tenant")],
    "list": Annotated[list[str], Header(alias="x-tenant")],
    "validation alias": Annotated[str, Header(validation_alias="x-tenant")],
    "choices": Annotated[str, Header(validation_alias=AliasChoices("tenant", "x-tenant"))],
    "optional model": Annotated[Plain | None, Header()],
    **{model.__name__: Annotated[model, Header()] for model in (Plain, ByAlias, ByValidationAlias, ByChoices)},
    **{model.__name__: Annotated[model, Header()] for model in (ByGenerator, Whatever, Before, ByInit)},
    "validated first": Annotated[Who, Header(), BeforeValidator(lambda given: {"who": given.get("x-tenant")})],
    "two models of one name": Annotated[Any, Depends(both(tenant, trace))],
    "the other one first": Annotated[Any, Depends(both(trace, tenant))],
    "a model and a header of one name": Annotated[Any, Depends(both(tenant, plain))],
    "the header first": Annotated[Any, Depends(both(plain, tenant))],
    "a dependency": Annotated[str, Depends(lambda who=Header("", validation_alias="x-tenant"): who)],
    "a key": Annotated[str, Security(APIKeyHeader(name="X-Tenant"))],
    "a cookie": Annotated[str, Security(APIKeyCookie(name="key"))],
    "bearer": Annotated[Any, Security(HTTPBearer())],
    "basic": Annotated[Any, Security(HTTPBasic(auto_error=False))],
    "token": Annotated[str, Security(OAuth2PasswordBearer("token"))],
    "a method of a key": Annotated[str, Depends(APIKeyHeader(name="X-Tenant").__call__)],
    "a part of a key": Annotated[str, Depends(partial(APIKeyHeader(name="X-Tenant").__call__))],
    "own scheme": Annotated[str, Security(OwnScheme(name="same"))],
}
ADDRESS: dict[str, Any] = {
    "name": Annotated[str, Path()],
    "choices": Annotated[str, Path(validation_alias=AliasChoices("who", "tenant"))],
    "a query": Annotated[str, Depends(of_address)],
    "a query by another name": Annotated[str, Depends(chosen)],
    "a key": Annotated[str, Security(APIKeyQuery(name="who"))],
}


async def batches(declared: Any, address: str = "in") -> list[list[bytes]]:
    broker = ScriptedBroker()
    taken: list[list[bytes]] = []

    async def handle(bodies: list[bytes], who: Any) -> None:
        taken.append(bodies)

    handle.__annotations__["who"] = declared
    if address == "in":  # an older FastAPI finds no value by some of these
        handle.__defaults__ = (None,)
    broker.subscriber(address, batch=True)(handle)
    async with broker:
        broker.script.items.put_nowait([sent(who) for who in WHO])
        await until(lambda: sum(map(len, taken)) == len(WHO))
    return taken


@pytest.mark.parametrize("declared", HEADERS.values(), ids=HEADERS)
async def test_a_header_is_that_of_each_message(declared: Any) -> None:
    taken = await batches(declared)
    assert all(len(set(bodies)) == 1 for bodies in taken)


@pytest.mark.parametrize("declared", ADDRESS.values(), ids=ADDRESS)
async def test_a_part_of_the_address_is_that_of_each_message(declared: Any) -> None:
    taken = await batches(declared, "in.{who}")
    assert all(len(set(bodies)) == 1 for bodies in taken)


async def test_what_nobody_reads_keeps_no_messages_apart() -> None:
    same = Annotated[str, Header(alias="same")]
    assert await batches(same) == [[who.encode() for who in WHO]]
    assert [len(bodies) for bodies in await batches(HEADERS["name"])] == [2, 2, 1]
