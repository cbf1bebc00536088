"""What the model sees: a pure function of the session's log, and never more than its window holds."""

from ostler.domain.context.assembly import next_messages as next_messages
from ostler.domain.context.assembly import request as request
from ostler.domain.context.estimate import MIN_REPLY_TOKENS as MIN_REPLY_TOKENS
from ostler.domain.context.estimate import estimated_input_tokens as estimated_input_tokens
from ostler.domain.context.estimate import window_of as window_of
from ostler.domain.context.plan import allowance as allowance
from ostler.domain.context.plan import summary_tokens as summary_tokens
