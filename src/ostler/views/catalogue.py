"""Every view that is kept up to date in a store."""

from ostler.views.fold import AnyView
from ostler.views.outcomes import OUTCOMES
from ostler.views.session_rows import SESSIONS
from ostler.views.usage import USAGE
from ostler.views.work import WORK

VIEWS: tuple[AnyView, ...] = (OUTCOMES, SESSIONS, USAGE, WORK)
