"""What the fast checks of a run say, in both languages: a name, a sentence, how to mend it."""

from app.services.align.checks.values import Check, Concern, Outcome
from app.services.problems import FieldProblem
from app.web import i18n
from app.web.i18n import gettext
from app.web.said import said

Words = tuple[str, str]  # a sentence, and how to mend it; the latter empty where nothing is to do


def icon(outcome: Outcome) -> str:
    """The icon of an outcome."""
    return {
        Outcome.PASSED: "check",
        Outcome.WARNING: "triangle-alert",
        Outcome.FAILED: "circle-alert",
        Outcome.UNKNOWN: "info",
    }[outcome]


def outcome_word(outcome: Outcome) -> str:
    """An outcome in a word."""
    return {
        Outcome.PASSED: gettext("passed"),
        Outcome.WARNING: gettext("warning"),
        Outcome.FAILED: gettext("failed"),
        Outcome.UNKNOWN: gettext("not known before it runs"),
    }[outcome]


def title(check: Check) -> str:
    """What is looked at."""
    return {
        Concern.DATA: gettext("Data"),
        Concern.REFUSED: gettext("Rejected rows"),
        Concern.HELD_OUT: gettext("Held-out part"),
        Concern.LENGTHS: gettext("Lengths"),
        Concern.MODEL: gettext("Model"),
        Concern.CONTEXT: gettext("Context length"),
        Concern.RESULT_ID: gettext("Id of the result"),
        Concern.SAE: "SAE",
        Concern.STRANGER: "SAE",
        Concern.HOOK: gettext("Hook"),
        Concern.FEATURES: gettext("Features"),
        Concern.STEPS: gettext("Steps"),
        Concern.WARMUP: gettext("Warm-up"),
        Concern.BATCH: gettext("Batch"),
        Concern.REFERENCE: gettext("Reference model"),
        Concern.CACHE: gettext("Reference cache"),
        Concern.MEMORY: gettext("Memory"),
        Concern.DISK: gettext("Disk"),
    }[check.name]


def sentence(check: Check) -> str:
    """What was found."""
    return _words(check)[0]


def hint(check: Check) -> str:
    """How to mend it; empty where nothing is to do."""
    return _words(check)[1]


def problem(check: Check) -> FieldProblem:
    """A failed check as what has to be mended at its field."""
    found, mend = _words(check)
    return FieldProblem(path=check.path, message=found, hint=mend)


def _words(check: Check) -> Words:
    match check.name:
        case Concern.DATA | Concern.REFUSED | Concern.HELD_OUT | Concern.LENGTHS:
            return _data_words(check)
        case Concern.MODEL | Concern.CONTEXT | Concern.RESULT_ID:
            return _model_words(check)
        case Concern.SAE | Concern.STRANGER | Concern.HOOK | Concern.FEATURES:
            return _sae_words(check)
        case Concern.STEPS | Concern.WARMUP | Concern.BATCH:
            return _step_words(check)
        case _:
            return _machine_words(check)


def _n(check: Check, name: str) -> str:
    value = check.numbers[name]
    return i18n.number(round(value))


def _data_words(check: Check) -> Words:
    if check.name is Concern.DATA:
        return _source_words(check)
    if check.name is Concern.REFUSED:
        return (
            gettext("%(n)s of %(rows)s rows are not used; row %(row)s: %(detail)s")
            % {
                "n": _n(check, "rejected"),
                "rows": _n(check, "rows"),
                "row": _n(check, "row"),
                "detail": said(check.text),
            },
            gettext("Store the file as a preference set to read every reason."),
        )
    if check.name is Concern.HELD_OUT:
        return (
            gettext(
                "Nothing is held out, so accuracy and drift cannot be measured on unseen data."
            ),
            gettext("Hold a share out, or name a held-out split."),
        )
    numbers = {name: _n(check, name) for name in ("cut", "items", "mean", "longest", "limit")}
    found = gettext("About %(mean)s tokens of text on average, %(longest)s at most; none is cut.")
    if check.numbers["cut"]:
        found = gettext(
            "About %(mean)s tokens of text on average, %(longest)s at most; about %(cut)s of "
            "%(items)s "
            "are cut at %(limit)s."
        )
    mend = gettext("Raise the length, or accept that answers lose their end.")
    return found % numbers, mend if check.outcome is Outcome.WARNING else ""


def _source_words(check: Check) -> Words:
    if check.outcome is Outcome.UNKNOWN:
        return (
            gettext("%(name)s is read when the run starts.") % {"name": check.subject},
            gettext("Measure to have it read before."),
        )
    if check.text:
        return said(check.text), ""
    numbers = {name: _n(check, name) for name in ("rows", "train", "held_out")}
    if check.outcome is Outcome.FAILED:
        return (
            gettext("None of the %(rows)s rows can be trained on.") % numbers,
            gettext("Choose other data, or mend the rows."),
        )
    return gettext("%(train)s to train on, %(held_out)s held out.") % numbers, ""


def _model_words(check: Check) -> Words:
    if check.name is Concern.RESULT_ID:
        if check.outcome is Outcome.FAILED:
            return (
                gettext("%(id)s is the id of the model itself.") % {"id": check.subject},
                gettext("Give the result an id of its own."),
            )
        return (
            gettext("There is a model called %(id)s.") % {"id": check.subject},
            gettext("Another id keeps the two apart."),
        )
    if check.name is Concern.CONTEXT:
        return (
            gettext("%(asked)s tokens are asked for, but the model reads %(limit)s.")
            % {"asked": _n(check, "asked"), "limit": _n(check, "limit")},
            gettext("Choose a smaller length."),
        )
    if check.outcome is Outcome.UNKNOWN:
        return (
            gettext("%(name)s is not on this machine yet, so its sizes are not known.")
            % {"name": check.subject},
            gettext("Measure to have it loaded before."),
        )
    return (
        gettext("%(layers)s layers of width %(width)s.")
        % {"layers": _n(check, "layers"), "width": _n(check, "width")},
        "",
    )


def _sae_words(check: Check) -> Words:
    subject = {"id": check.subject}
    if check.name is Concern.STRANGER:
        return (
            gettext("It was harvested on %(id)s.") % subject,
            gettext("Fine for a model that was tuned from it; else choose another SAE."),
        )
    if check.name is Concern.HOOK:
        return _hook_words(check)
    if check.name is Concern.FEATURES:
        return _feature_words(check)
    if check.outcome is Outcome.UNKNOWN:
        return gettext("%(id)s is fetched when the run starts.") % subject, ""
    if check.text:
        return (
            gettext("%(id)s (%(kind)s) cannot hold features.")
            % {"id": check.subject, "kind": check.text},
            gettext("Choose a ReLU, JumpReLU, TopK or BatchTopK SAE that does not scale tokens."),
        )
    numbers = {name: _n(check, name) for name in ("d_in", "d_sae", "width")}
    if check.outcome is Outcome.FAILED:
        return (
            gettext("%(id)s reads %(d_in)s numbers a token, the model has %(width)s.")
            % {**subject, **numbers},
            gettext("Choose an SAE that was trained on this model."),
        )
    return gettext("%(id)s: %(d_sae)s features.") % {**subject, **numbers}, ""


def _hook_words(check: Check) -> Words:
    if check.text:
        return said(check.text), ""
    numbers = {"layers": _n(check, "layers"), "layer": _n(check, "layer")}
    return (
        gettext("The model has %(layers)s layers; there is no layer %(layer)s.") % numbers,
        gettext("Choose an SAE of this model."),
    )


def _feature_words(check: Check) -> Words:
    numbers = check.numbers
    if "feature" in numbers:
        return (
            gettext("%(id)s has features 0 to %(last)s; %(feature)s is not one.")
            % {
                "id": check.subject,
                "last": i18n.number(round(numbers["d_sae"]) - 1),
                "feature": _n(check, "feature"),
            },
            gettext("Take features of this SAE, not of a wider one."),
        )
    if "k" in numbers:
        return (
            gettext("k is %(k)s, but %(id)s has %(d_sae)s features.")
            % {"id": check.subject, "k": _n(check, "k"), "d_sae": _n(check, "d_sae")},
            gettext("Choose a smaller k."),
        )
    return (
        gettext("%(id)s: %(held)s held, %(free)s free, all others with weight %(others)s.")
        % {
            "id": check.subject,
            "held": _n(check, "held"),
            "free": _n(check, "free"),
            "others": i18n.significant(numbers["others"]),
        },
        "",
    )


def _step_words(check: Check) -> Words:
    if check.name is Concern.STEPS:
        return gettext("%(steps)s steps of %(batch)s; epochs at most: %(epochs)s.") % {
            name: _n(check, name) for name in ("steps", "batch", "epochs")
        }, ""
    if check.name is Concern.WARMUP:
        return (
            gettext("%(warmup)s warm-up steps of %(steps)s: the full learning rate is not reached.")
            % {"warmup": _n(check, "warmup"), "steps": _n(check, "steps")},
            gettext("Warm up for fewer steps, or train for more."),
        )
    numbers = {name: _n(check, name) for name in ("batch", "micro", "processes", "passes")}
    if check.outcome is Outcome.WARNING:
        return (
            gettext(
                "%(batch)s a step are not a multiple of %(micro)s × %(processes)s, so the last "
                "pass of a step is partly empty."
            )
            % numbers,
            gettext("Results stay the same; a divisor of the batch size is quicker."),
        )
    return gettext("%(passes)s passes of %(micro)s a step and process.") % numbers, ""


def _machine_words(check: Check) -> Words:
    if check.name is Concern.REFERENCE:
        return (
            gettext("%(method)s keeps the frozen model in memory beside the trained one.")
            % {"method": check.subject},
            gettext("DPO, SimPO and FPO do without."),
        )
    if check.name is Concern.CACHE:
        if check.outcome is Outcome.UNKNOWN:
            return gettext("Its size depends on data or SAEs that are not read yet."), ""
        return gettext("At most %(size)s on disk, computed once and used again.") % {
            "size": i18n.size(check.numbers["bytes"])
        }, ""
    if check.outcome is Outcome.UNKNOWN:
        return gettext("Depends on sizes that are not known yet."), gettext(
            "Measure to have them read."
        )
    sizes = {name: i18n.size(check.numbers[name]) for name in ("bytes", "free")}
    if check.name is Concern.MEMORY:
        return _memory_words(check, sizes)
    found = gettext("%(bytes)s for checkpoints, model and cache; %(free)s are free.") % sizes
    mend = gettext("Keep fewer checkpoints, or make room.")
    return found, mend if check.outcome is Outcome.WARNING else ""


def _memory_words(check: Check, sizes: dict[str, str]) -> Words:
    if check.subject:
        found = gettext("%(bytes)s on each %(device)s, by formula.")
        return found % {**sizes, "device": check.subject}, ""
    found = gettext("%(bytes)s by formula; %(free)s are free here.") % sizes
    mend = gettext(
        "Use adapters, gradient checkpointing, shorter lengths or a smaller micro-batch."
    )
    return found, mend if check.outcome is Outcome.WARNING else ""
