"""Onboard a new colleague: two answers, patient reminders, and a way back.

Shows several signals awaited at once, a reminder loop, and cancellation that cleans up.

    belugawf run onboarding -a person=Ada
    belugawf waiting
    belugawf signal contract --payload '"signed"'
    belugawf signal laptop --payload '"silver"'

Or `belugawf cancel`: the account is closed again, and the run ends as cancelled. To see the
reminders without waiting for days: `-a person=Ada -a remind_every=3s -a reminders=2`.
"""

import asyncio

from belugawf import SignalTimeoutError, WorkflowContext, activity, workflow

QUESTIONS = {
    "contract": "Is the contract of {} signed?",
    "laptop": "Which colour shall the laptop of {} have?",
}


@activity
def create_account(person: str) -> str:
    """Opens the account, or finds the one an earlier attempt has opened."""
    return f"{person.lower()}@example.org"


@activity
def close_account(person: str) -> None:
    """Closes the account; that there is none is fine as well."""
    activity.logger.info("closed the account of %s", person)


@activity
def send_reminder(person: str, question: str) -> None:
    """Asks once more."""
    activity.logger.info("reminded %s: %s", person, question)


@activity
def order_laptop(person: str, colour: str) -> str:
    """Orders the machine and returns the order's number."""
    return f"laptop-{colour}-for-{person.lower()}"


async def answer(
    ctx: WorkflowContext, person: str, signal: str, every: str, reminders: int
) -> str | None:
    """What the person answered; None after `reminders` reminders, `every` that long apart."""
    question = QUESTIONS[signal].format(person)
    for reminder in range(reminders + 1):
        try:
            reply = await ctx.wait_for_signal(signal, timeout=every, type=str, prompt=question)
        except SignalTimeoutError:
            if reminder < reminders:
                await ctx.execute_activity(send_reminder, person, question)
        else:
            return str(reply.payload)
    return None


@workflow
async def onboarding(
    ctx: WorkflowContext, person: str, remind_every: str = "2d", reminders: int = 5
) -> str:
    """Prepares everything for a new colleague; undone where it is cancelled or unanswered."""
    try:
        # Shielded: cancelling half-way would leave open whether there is an account to close.
        account = await ctx.shielded(ctx.execute_activity(create_account, person))
        async with asyncio.TaskGroup() as group:
            answers = {
                signal: group.create_task(answer(ctx, person, signal, remind_every, reminders))
                for signal in QUESTIONS
            }
    except asyncio.CancelledError:
        await ctx.execute_activity(close_account, person)
        raise
    contract, colour = (task.result() for task in answers.values())
    if contract is None or colour is None:
        await ctx.execute_activity(close_account, person)
        return f"{person} did not answer; the account is closed."
    order = await ctx.execute_activity(order_laptop, person, colour)
    return f"{person} is on board: {account}, {order}."
