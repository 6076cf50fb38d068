"""Descriptions of the errors that operations may answer with."""

from typing import Any

_WORDS = {
    404: ("not_found", "There is no such thing.", "No model 'gpt-5'."),
    409: ("conflict", "The thing is in a state that does not allow this.", "Job 7 has succeeded."),
    422: ("invalid", "A parameter or a field is not valid.", "The request has invalid fields."),
    502: (
        "llm_unavailable",
        "The language model's server does not answer.",
        "The endpoint cannot be used: The connection failed or broke.",
    ),
    503: ("database_unavailable", "The database does not answer.", "The database does not answer."),
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for error statuses, each with an example; 503 always among them.

    The schema they name is put into the document by app.api.document: FastAPI would file it under
    the media type of the operation's success, which errors never have.
    """
    return {status: _failure(*_WORDS[status]) for status in (*statuses, 503)}


def _failure(code: str, description: str, message: str) -> dict[str, Any]:
    example = {
        "error": {
            "code": code,
            "message": message,
            "hint": "",
            "fields": [],
            "request_id": "5f1c0b7e9d3a4c5e",
        }
    }
    body = {"schema": {"$ref": "#/components/schemas/ErrorBody"}, "example": example}
    return {"description": description, "content": {"application/json": body}}
