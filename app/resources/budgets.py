"""/v1/budgets: what a project may spend in a month and in a day."""

from __future__ import annotations

import marshmallow as ma
from flask import Response
from marshmallow import validate
from webargs import fields

from app import auth, body
from app.answers import answer, nothing
from app.openapi import Blueprint
from app.schemas import Money, page_of
from core.budgets import plans

blueprint = Blueprint("budgets", "What the project may spend in a month and in a day")


class BudgetBody(ma.Schema):
    """A limit, when to warn, and what happens when it is reached."""

    limit_usd = Money(required=True)
    thresholds = fields.List(
        fields.Float(validate=validate.Range(0.0001, 10)),
        metadata={"description": "Shares of the limit at which a `budget.threshold` event is sent, once per period"},
    )
    on_limit = fields.String(
        validate=validate.OneOf(plans.ON_LIMIT),
        metadata={"description": "`stop`: batches pause and calls in real time answer 429; `warn`: events only"},
    )


class BudgetSchema(ma.Schema):
    """A budget in its present period, which is of UTC's calendar."""

    period = fields.String(validate=validate.OneOf(plans.PERIODS))
    limit_usd = fields.String()
    thresholds = fields.List(fields.Float())
    on_limit = fields.String(validate=validate.OneOf(plans.ON_LIMIT))
    period_start = fields.DateTime()
    period_end = fields.DateTime()
    spent_usd = fields.String()
    reserved_usd = fields.String(metadata={"description": "The most that calls in flight can still cost"})
    remaining_usd = fields.String()
    created_at = fields.DateTime()
    updated_at = fields.DateTime()


_BODY = {"limit_usd": "250.00", "thresholds": [0.5, 0.8, 1.0], "on_limit": "stop"}
_BUDGET = {
    "period": "month",
    **_BODY,
    "limit_usd": "250",
    "period_start": "2026-11-01T00:00:00.000000Z",
    "period_end": "2026-12-01T00:00:00.000000Z",
    "spent_usd": "131.0625",
    "reserved_usd": "0.42",
    "remaining_usd": "118.5175",
    "created_at": "2026-11-03T12:00:00.000000Z",
    "updated_at": "2026-11-03T12:00:00.000000Z",
}


@blueprint.put("/v1/budgets/<any(month, day):period>")
@blueprint.takes(BudgetBody, example=_BODY)
@blueprint.response(201, BudgetSchema, example=_BUDGET)
@blueprint.alt_response(200, schema=BudgetSchema, description="There was one: replaced")
def put_budget(period: str) -> Response:
    """Set what may be spent in a month or a day; what was spent in the present one counts."""
    budget, created = plans.put(auth.principal(), period, body.json_object())
    return answer(budget, 201 if created else 200)


@blueprint.get("/v1/budgets")
@blueprint.response(
    200, page_of(BudgetSchema, "BudgetList"), example={"data": [_BUDGET], "has_more": False, "next_cursor": None}
)
def list_budgets() -> Response:
    """The project's budgets: two at the most, so this is all of them."""
    return answer({"data": plans.every(auth.principal()), "has_more": False, "next_cursor": None})


@blueprint.get("/v1/budgets/<any(month, day):period>")
@blueprint.response(200, BudgetSchema, example=_BUDGET)
def get_budget(period: str) -> Response:
    """One budget, with what is spent and reserved."""
    return answer(plans.get(auth.principal(), period))


@blueprint.delete("/v1/budgets/<any(month, day):period>")
@blueprint.response(204)
def delete_budget(period: str) -> Response:
    """Take a budget away; batches that waited for it go on."""
    plans.delete(auth.principal(), period)
    return nothing()
