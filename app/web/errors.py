"""Errors as pages: one table from class to status, one page, one toast."""

import logging

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from app.services.problems import FieldsInvalid
from app.web import i18n, middleware, render, words
from app.web.i18n import gettext, ngettext
from app.web.said import joined, said
from core import errors

STATUS: dict[type[errors.SparsightError], int] = {
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.InputError: 422,
    errors.PermissionDenied: 403,
    errors.RateLimited: 429,
    errors.ExternalError: 502,
    errors.ResourceError: 503,
    errors.Cancelled: 409,
    errors.SparsightError: 500,
}

logger = logging.getLogger(__name__)


def respond(request: Request, error: Exception) -> Response:
    """The answer to any error of a page: a whole page, or a toast where htmx asked.

    An unforeseen error comes here past every middleware, so that language and headers are set
    once more.
    """
    i18n.current.set(middleware.language_of(request.scope))
    response = _answer(request, error)
    for name, value in middleware.SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _answer(request: Request, error: Exception) -> Response:
    status, message, hint = describe(error)
    title, headline = heading(status), _headline(error, message)
    if render.is_partial(request):
        context = {"title": headline or title, "text": joined(message, hint)}
        body = render.fragment("errors/_toast.html", {"here": render.here(request), **context})
        return HTMLResponse(body, status, headers={"Vary": render.VARY})
    return render.page(
        request,
        "errors/show.html",
        status=status,
        title=title,
        headline=headline,
        message=message,
        hint=hint,
    )


def describe(error: Exception) -> tuple[int, str, str]:
    """Status, sentence and hint of an error; nothing of an unknown one is told to strangers."""
    if isinstance(error, FieldsInvalid):
        return status_of(error), _of_fields(error), said(error.hint)
    if isinstance(error, errors.SparsightError):
        return status_of(error), said(error.message), said(error.hint)
    if isinstance(error, RequestValidationError):
        return 422, gettext("The address has a part that is not valid."), ""
    if isinstance(error, HTTPException):
        return error.status_code, "", ""
    return 500, "", gettext("The server's log says more.")


def _of_fields(error: FieldsInvalid) -> str:
    """The first field that is wrong, and how many more there are."""
    first, n_more = error.problems[0], len(error.problems) - 1
    place = f"{first.path}: " if first.path else ""
    more = ngettext("And %(num)s more.", "And %(num)s more.", n_more) % {"num": n_more}
    return f"{place}{said(first.message)}{f' {more}' if n_more else ''}"


def _headline(error: Exception, message: str) -> str:
    """What kind of failure it is in the reader's language, where its own sentence is English."""
    if not isinstance(error, errors.SparsightError) or i18n.current.get() == i18n.DEFAULT:
        return ""
    return words.error_word(error.code) if message == error.message else ""


def status_of(error: errors.SparsightError) -> int:
    """The status of an error: that of the nearest class in its ancestry."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def heading(status: int) -> str:
    """What a status means, in a few words."""
    match status:
        case 403:
            return gettext("This is not allowed")
        case 404:
            return gettext("There is nothing here")
        case 405:
            return gettext("This address cannot do that")
        case 409:
            return gettext("This has changed meanwhile")
        case 422 | 400:
            return gettext("That cannot be done")
        case 429:
            return gettext("Too many requests")
        case 502:
            return gettext("Another service does not answer")
        case 503 | 507:
            return gettext("This machine lacks something")
        case _:
            return gettext("Something went wrong")
