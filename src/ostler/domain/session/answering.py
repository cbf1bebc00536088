"""What people say of the call that waits."""

from typing import Literal

from ostler.domain import gate
from ostler.domain.session import approvals
from ostler.domain.session import commands as command
from ostler.domain.session.decision import Decision, refused
from ostler.domain.session.events import ApprovalDenied, ApprovalGranted, ApprovalRejected, ApprovalReturned
from ostler.domain.session.interventions import is_undoing
from ostler.domain.session.state import Question
from ostler.kernel.errors import Conflict


def answer(decision: Decision, asked: command.Approve | command.Deny | command.AskBack) -> None:
    """What a person says of the call that waits. Whatever does not count is recorded as well, with the reason."""
    state, by = decision.state, asked.by
    digest = asked.digest if isinstance(asked, command.Approve) else None
    problem = approvals.objection(state, asked.call, by, asked.at_us, digest)
    if problem is None and isinstance(asked, command.Approve):
        problem = approvals.objection_to_grant(state, by)
    if problem is not None:
        decision.emit(ApprovalRejected(asked.call, by.id, _DECISIONS[type(asked)], problem))
        return
    question = state.question
    assert question is not None, "an objection was looked for"
    match asked:
        case command.Approve():
            _approve(decision, asked, question)
        case command.Deny():
            decision.emit(ApprovalDenied(asked.call, by.id, asked.reason, by.roles))
            refused(decision, question.tool, f"{by.id} denied it", is_final=not is_undoing(state, question.call))
        case command.AskBack():
            decision.emit(ApprovalReturned(asked.call, by.id, asked.question, by.roles))
            refused(decision, question.tool, f"{by.id} asked back", is_final=False)


_DECISIONS: dict[type, Literal["grant", "deny", "return"]] = {
    command.Approve: "grant",
    command.Deny: "deny",
    command.AskBack: "return",
}


def _approve(decision: Decision, asked: command.Approve, question: Question) -> None:
    digest, arguments = question.digest, asked.arguments
    is_alone = not question.approved_by and approvals.is_enough(question, asked.by)
    if arguments is not None and not is_alone:
        raise Conflict("Arguments can only be changed by the one approval that is enough: others approved these.")
    if arguments is not None and not question.tool:
        raise Conflict("A call of the model has no arguments that could be changed.")
    if asked.lasts != "once" and not is_alone:
        raise Conflict("An approval can only last where it alone is enough: others approved this once.")
    if arguments is not None:
        arguments = gate.changed(decision.state, question.tool, arguments)
        try:
            digest = gate.digest_of(decision.state, question.tool, arguments)
        except ValueError as error:
            raise Conflict(f"The call cannot be approved with these arguments: {error}.") from error
    decision.emit(
        ApprovalGranted(
            asked.call,
            asked.by.id,
            digest,
            asked.reason,
            roles=asked.by.roles,
            is_enough=approvals.is_enough(question, asked.by),
            arguments=arguments,
            lasts=asked.lasts,
            until_us=asked.until_us,
        )
    )
