"""Errors of the API: one table from class to status, one shape for all of them."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from app.services.problems import FieldProblem, FieldsChanged, FieldsInvalid
from core import errors

# The nearest class in an error's ancestry decides.
STATUS: dict[type[errors.SparsightError], HTTPStatus] = {
    errors.SparsightError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InputError: HTTPStatus.BAD_REQUEST,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.CorpusEmpty: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.CorpusUnreadable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.PermissionDenied: HTTPStatus.FORBIDDEN,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ExternalError: HTTPStatus.BAD_GATEWAY,
    errors.ResourceError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Cancelled: HTTPStatus.CONFLICT,
}

_HTTP_WORDS = {
    404: ("not_found", "There is nothing at this address.", "See /api/v1/openapi.json."),
    405: ("method_not_allowed", "This address does not take this method.", "See Allow."),
    413: ("too_large", "The request is too large.", "Send less at once."),
}


class FieldError(BaseModel):
    """One field that has to be mended."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(
        description="Dotted place, beginning with query, path or body where it is a parameter's.",
        examples=["saes.0.source.location"],
    )
    message: str = Field(description="What is wrong.", examples=["There is no folder /data/sae."])
    hint: str = Field(description="How to mend it; may be empty.", examples=["Name a folder."])


class ErrorDetail(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(description="Stable name of the kind of error.", examples=["not_found"])
    message: str = Field(
        description="What happened, one sentence.", examples=["No feature 99999 in 15-demo-res-4k."]
    )
    hint: str = Field(description="How to mend it; may be empty.", examples=["It has 4608."])
    fields: list[FieldError] = Field(description="Wrong fields, if it was about fields.")
    request_id: str = Field(
        description="Names the request in the server's log.", examples=["5f1c0b7e9d3a4c5e"]
    )


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    model_config = ConfigDict(frozen=True)

    error: ErrorDetail


def status_of(error: errors.SparsightError) -> HTTPStatus:
    """The status of an error: that of the nearest class in its ancestry."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_response(
    request: Request,
    status: int,
    *,
    code: str,
    message: str,
    hint: str = "",
    problems: Iterable[FieldProblem] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An answer of the one error shape."""
    detail = ErrorDetail(
        code=code,
        message=message,
        hint=hint,
        fields=[FieldError(path=p.path, message=p.message, hint=p.hint) for p in problems],
        request_id=str(request.scope.get("request_id", "")),
    )
    body = ErrorBody(error=detail).model_dump(mode="json")
    return JSONResponse(body, status_code=status, headers=headers)


def respond(request: Request, error: Exception) -> JSONResponse:
    """The answer to any error of an API request."""
    if isinstance(error, errors.SparsightError):
        problems = error.problems if isinstance(error, FieldsInvalid | FieldsChanged) else ()
        return error_response(
            request,
            status_of(error),
            code=error.code,
            message=error.message,
            hint=error.hint,
            problems=problems,
        )
    if isinstance(error, RequestValidationError):
        return _invalid_request(request, error)
    if isinstance(error, HTTPException):
        return _http_error(request, error)
    return error_response(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal_error",
        message="Something went wrong on the server.",
        hint="The server's log has more under this request_id.",
    )


def _invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
    problems = [
        FieldProblem(
            path=".".join(str(step) for step in detail["loc"]), message=f"{detail['msg']}."
        )
        for detail in error.errors()
    ]
    return error_response(
        request,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code="invalid",
        message="The request has fields that are not valid.",
        hint="See fields.",
        problems=problems,
    )


def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    status = HTTPStatus(error.status_code)
    fallback = (status.name.lower(), f"{status.phrase}.", "")
    code, message, hint = _HTTP_WORDS.get(int(status), fallback)
    headers: dict[str, Any] = dict(error.headers or {})
    return error_response(
        request, status, code=code, message=message, hint=hint, headers=headers or None
    )
