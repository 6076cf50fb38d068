"""The plots of a training run, of runs compared, and of a job's speed."""

from collections.abc import Sequence

from app.services.align.runs import Comparison, RunCard
from app.services.jobs.metric_history import MetricTable
from app.web.curves import Form, Line, Plot, line
from app.web.i18n import gettext
from core.domain.alignment import AlignSpec, Method

KL, ACCURACY = "eval_probe_kl/forward", "eval_preference_accuracy"


def run_plots(run: RunCard, table: MetricTable) -> tuple[Plot, ...]:
    """The plots of a run's page; those without a number are left out once it has ended."""
    plots = [_loss(table)]
    if isinstance(run.spec, AlignSpec):
        plots += [_accuracy(table), _kl(table), _rewards(table), _margin(table), _logps(table)]
        trained = run.spec.method is Method.FPO
        plots += [_divergence(table, sae_id, trained=trained) for sae_id in run.sae_ids]
        if run.spec.needs_online_reference:
            plots.append(_sequence_kl(table))
    plots += _machine(table)
    if run.job.active:
        return tuple(plots)
    return tuple(plot for plot in plots if any(entry.points for entry in plot.lines))


def speed_plots(table: MetricTable, *, unit: str) -> tuple[Plot, ...]:
    """A job's speed and how far it came, over the seconds since it began."""
    return (
        Plot(
            key="rate",
            title=gettext("Speed"),
            unit=gettext("%(unit)s a second") % {"unit": unit},
            x_form=Form.SECONDS,
            lines=(line(table, "rate", gettext("speed"), tone=1, smooth=False),),
        ),
        Plot(
            key="share",
            title=gettext("Progress"),
            form=Form.PERCENT,
            x_form=Form.SECONDS,
            lines=(line(table, "share", gettext("done"), tone=3, smooth=False),),
        ),
    )


def compared_plots(found: Comparison) -> tuple[Plot, ...]:
    """One plot a number, with one line a run."""
    names = {name for table in found.tables for name in table.columns}
    plots = [_tradeoff(found)] if {KL, ACCURACY} <= names else []
    for name, title, unit, form in _compared():
        if name in names:
            plots.append(_across(found, name, title=title, unit=unit, form=form))
    for name in sorted(n for n in names if n.startswith("eval_feature_divergence/")):
        _, sae_id, side = name.split("/")
        title = gettext("Feature divergence, %(side)s · %(sae)s") % {
            "side": side_word(side),
            "sae": sae_id,
        }
        plots.append(_across(found, name, title=title))
    return tuple(plots)


def side_word(side: str) -> str:
    """Which answer of a pair."""
    return gettext("chosen") if side == "chosen" else gettext("rejected")


def _compared() -> Sequence[tuple[str, str, str, Form]]:
    return (
        (ACCURACY, gettext("Held-out accuracy"), "", Form.PERCENT),
        (KL, gettext("KL to the reference"), gettext("nat a token"), Form.PLAIN),
        ("loss", gettext("Loss"), "", Form.PLAIN),
        ("eval_loss", gettext("Held-out loss"), "", Form.PLAIN),
        ("rewards/margins", gettext("Reward margin"), "", Form.PLAIN),
        ("rewards/chosen", gettext("Reward, chosen"), "", Form.PLAIN),
        ("rewards/rejected", gettext("Reward, rejected"), "", Form.PLAIN),
        ("logps/chosen", gettext("Log-probability, chosen"), gettext("nat"), Form.PLAIN),
        ("logps/rejected", gettext("Log-probability, rejected"), gettext("nat"), Form.PLAIN),
        ("grad_norm", gettext("Gradient norm"), "", Form.PLAIN),
        ("learning_rate", gettext("Learning rate"), "", Form.PLAIN),
        ("tokens_per_second", gettext("Tokens a second"), "", Form.PLAIN),
        ("peak_memory_bytes", gettext("Peak memory"), "", Form.BYTES),
    )


def _across(
    found: Comparison, name: str, *, title: str, unit: str = "", form: Form = Form.PLAIN
) -> Plot:
    rows = zip(found.runs, found.tables, strict=True)
    return Plot(
        key=name,
        title=title,
        unit=unit,
        form=form,
        lines=tuple(
            line(
                table,
                name,
                f"#{run.job_id}",
                tone=place,
                smooth=not name.startswith("eval_") and name != "learning_rate",
                key=str(run.job_id),
            )
            for place, (run, table) in enumerate(rows, start=1)
        ),
    )


def _tradeoff(found: Comparison) -> Plot:
    """What each run pays in KL for its accuracy, evaluation by evaluation."""
    lines = []
    for place, (run, table) in enumerate(zip(found.runs, found.tables, strict=True), start=1):
        kl, accuracy = dict(table.points(KL)), dict(table.points(ACCURACY))
        points = tuple((kl[step], accuracy[step]) for step in sorted(kl.keys() & accuracy.keys()))
        lines.append(
            Line(
                table=str(run.job_id),
                name=ACCURACY,
                label=f"#{run.job_id}",
                tone=place,
                smooth=False,
                points=points,
            )
        )
    return Plot(
        key="tradeoff",
        title=gettext("Accuracy against KL"),
        unit=gettext("across: nat a token"),
        form=Form.PERCENT,
        lines=tuple(lines),
        live=False,
    )


def _loss(table: MetricTable) -> Plot:
    return Plot(
        key="loss",
        title=gettext("Loss"),
        lines=(
            line(table, "loss", gettext("training"), tone=1),
            line(table, "eval_loss", gettext("held out"), tone=4, smooth=False),
        ),
    )


def _accuracy(table: MetricTable) -> Plot:
    return Plot(
        key="accuracy",
        title=gettext("Accuracy"),
        form=Form.PERCENT,
        lines=(
            line(table, ACCURACY, gettext("held out"), tone=4, smooth=False),
            line(table, "preference_accuracy", gettext("training"), tone=1),
            line(table, "rewards/accuracies", gettext("reward"), tone=3),
        ),
    )


def _kl(table: MetricTable) -> Plot:
    return Plot(
        key="kl",
        title=gettext("KL to the reference"),
        unit=gettext("nat a token"),
        lines=(
            line(table, KL, gettext("forward"), tone=4, smooth=False),
            line(table, "eval_probe_kl/reverse", gettext("reverse"), tone=3, smooth=False),
        ),
    )


def _rewards(table: MetricTable) -> Plot:
    return _sides(table, "rewards", gettext("Rewards"))


def _margin(table: MetricTable) -> Plot:
    return Plot(
        key="margin",
        title=gettext("Reward margin"),
        lines=(
            line(table, "rewards/margins", gettext("training"), tone=3),
            line(table, "eval_rewards/margins", gettext("held out"), tone=4, smooth=False),
        ),
    )


def _logps(table: MetricTable) -> Plot:
    return _sides(table, "logps", gettext("Log-probabilities"), unit=gettext("nat"))


def _divergence(table: MetricTable, sae_id: str, *, trained: bool) -> Plot:
    """Of every step where the loss holds it, else of the evaluations, which all methods make."""
    title = gettext("Feature divergence · %(sae)s") % {"sae": sae_id}
    name = f"feature_divergence/{sae_id}"
    return _sides(table, name if trained else f"eval_{name}", title)


def _sequence_kl(table: MetricTable) -> Plot:
    return _sides(table, "seq_kl", gettext("Sequence KL"), unit=gettext("nat"))


def _sides(table: MetricTable, name: str, title: str, *, unit: str = "") -> Plot:
    smooth = not name.startswith("eval_")
    return Plot(
        key=name,
        title=title,
        unit=unit,
        lines=(
            line(table, f"{name}/chosen", gettext("chosen"), tone=5, smooth=smooth),
            line(table, f"{name}/rejected", gettext("rejected"), tone=2, smooth=smooth),
        ),
    )


def _machine(table: MetricTable) -> list[Plot]:
    rows = (
        ("learning_rate", gettext("Learning rate"), Form.PLAIN, False),
        ("grad_norm", gettext("Gradient norm"), Form.PLAIN, True),
        ("tokens_per_second", gettext("Tokens a second"), Form.PLAIN, True),
        ("peak_memory_bytes", gettext("Peak memory"), Form.BYTES, False),
    )
    return [
        Plot(
            key=name,
            title=title,
            form=form,
            lines=(line(table, name, gettext("value"), tone=1, smooth=smooth),),
        )
        for name, title, form, smooth in rows
    ]
