"""The smallest workflow: one activity, one result.

belugawf run greeting -i Ada
"""

from belugawf import WorkflowContext, activity, workflow


@activity
def greet(name: str) -> str:
    """Activities do the work; whatever they return is recorded."""
    return f"Hello, {name}!"


@workflow
async def greeting(ctx: WorkflowContext, name: str = "world") -> str:
    """Greets somebody."""
    return await ctx.execute_activity(greet, name)
