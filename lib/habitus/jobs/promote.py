"""Which model of each detector scores: the newest, until a person says which."""

from collections.abc import Iterator

from habitus.edges.models import load_model
from habitus.errors import ArtefactError, SettingsError, nearest
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import models_that_score, units_for

_JOB = "promote"


def run(context: JobContext) -> None:
    """Have the model of this id score from now on."""
    model_id = _asked_for(context)
    detector = _detector_of(context, model_id)
    before = _promote(context, detector, model_id)
    context.reporter.say(_in_words(detector, model_id, before))
    if before not in (None, model_id):
        context.reporter.say(f"`habitus promote {before}` goes back")
    scores = models_that_score(context)[detector]
    if scores != model_id:
        context.reporter.say(f"score.models names {scores}, which scores as long as it does")


def preview(context: JobContext) -> Iterator[str]:
    """Say what would score instead of what, and since when that does."""
    model_id = _asked_for(context)
    detector = _detector_of(context, model_id)
    yield f"  {_in_words(detector, model_id, context.artefacts.current().get(detector))}"
    for one in context.artefacts.promotions(detector):
        yield f"  {one.model_id} since {one.promoted_at:%Y-%m-%d %H:%M}, by {one.job} {one.run_id}"


def promote_newest(context: JobContext, detector: str, model_id: str) -> None:
    """Have a model that training has made, or found there, score.

    Not one that a person has put another in the place of: training again, on the same units, would
    undo that.
    """
    history = context.artefacts.promotions(detector)
    scored = {name for one in history for name in (one.model_id, one.instead_of)}
    chosen = history[-1].model_id if history and history[-1].job == _JOB else model_id
    if chosen != model_id and model_id in scored:
        context.reporter.say(
            f"{chosen} scores instead of {model_id}, as `habitus promote` was told"
        )
    else:
        _promote(context, detector, model_id)


def _promote(context: JobContext, detector: str, model_id: str) -> str | None:
    return context.artefacts.promote(
        detector, model_id, job=context.job, run_id=context.run_id, at=context.started_at
    )


def _asked_for(context: JobContext) -> str:
    if context.arguments.model is None:
        raise SettingsError(_JOB, "no model", "Give its id.")
    return context.arguments.model


def _detector_of(context: JobContext, model_id: str) -> str:
    """The detector of a model that can score the units that are there.

    Raises:
        ArtefactError: There is no such model, or it is damaged.
        InputError: The units are of another vocabulary than it knows.
    """
    known = context.artefacts.model_ids()
    if model_id not in known:
        place = f"{context.artefacts.root}/models"
        raise ArtefactError(place, f"no model {model_id!r}", nearest(model_id, known))
    model = load_model(context.artefacts.root, model_id)
    units_for(context, [model_id], model.vocabulary)
    return model_id.rpartition("-")[0]


def _in_words(detector: str, model_id: str, before: str | None) -> str:
    if before == model_id:
        return f"{detector}: {model_id} scores already"
    return f"{detector}: {model_id} scores from now on, instead of {before or 'none'}"
