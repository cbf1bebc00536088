"""The grammar of rules, as it is published: LALR(1), in the notation of lark, with a lexer that knows the context.

Keywords are written in any case; most are reserved only where the grammar expects them. A terminal whose name begins
with an underscore, or that has none, leaves nothing in the tree.
"""

GRAMMAR = r"""
start: header? statement*

header: POLICY WORD [_VERSION QUANTITY]
?statement: default | input | risk | allow | deny | require | limit | redact

default: DEFAULT (ALLOW | DENY)
input:   INPUT PATH ":" WORD [EQUALS given]
risk:    RISK sum [_FOR targets] when note*
allow:   ALLOW [targets] when note*
deny:    DENY [targets] when note*
require: REQUIRE [QUANTITY] APPROVALS [_BY _ROLE texts] [_WITHIN QUANTITY] [_FOR targets] when note*
limit:   LIMIT counted _TO (QUANTITY | MONEY) _PER QUANTITY [_PER WORD] note*
redact:  REDACT _OUTPUT _OF targets _MATCHING words note*

when:    [_IF expression] [_UNLESS expression]
note:    _BECAUSE TEXT                      -> because
    |    _AS TEXT                           -> named
counted: SUM "(" TARGET ")"                 -> counted_sum
    |    targets                            -> counted_calls
targets: TARGET ("," TARGET)*
words:   TARGET ("," TARGET)*
texts:   TEXT ("," TEXT)*

?expression: conjunction
    |    conjunction (_OR conjunction)+     -> any_of
?conjunction: negation
    |    negation (_AND negation)+          -> all_of
?negation: comparison
    |    NOT negation                       -> negated
?comparison: sum
    |    sum (EQUALS | COMPARES) sum        -> compared
    |    sum _IN sum                        -> is_in
    |    sum NOT _IN sum                    -> is_not_in
    |    sum _HAS sum                       -> has
    |    sum _MATCHES (TEXT | REGEX)        -> matches
    |    sum _FROM words                    -> said_by
?sum:    product
    |    sum (PLUS | MINUS) product         -> calculated
?product: factor
    |    product (TIMES | OVER) factor      -> calculated
?factor: atom
    |    MINUS factor                       -> negative
?atom:   value
    |    PATH                               -> name
    |    "(" expression ")"
    |    FUNCTION "(" expression ")"        -> function
    |    HISTORY "(" targets ")" [(SINCE | AFTER) TARGET] _WITHIN QUANTITY [_PER WORD]  -> history
    |    SUM "(" TARGET ")" [(SINCE | AFTER) TARGET] _WITHIN QUANTITY [_PER WORD]  -> history_sum
?value:  literal
    |    "[" [constant ("," constant)*] "]" -> list_of
    |    "{" [constant ("," constant)*] "}" -> set_of
?constant: literal
    |    MINUS QUANTITY                     -> negative
    |    MINUS MONEY                        -> negative
?given:  value
    |    MINUS QUANTITY                     -> negative
    |    MINUS MONEY                        -> negative
?literal: QUANTITY                          -> quantity
    |    MONEY                              -> money
    |    TEXT                               -> text
    |    TRUE                               -> true
    |    FALSE                              -> false

POLICY.3:     /policy(?!\w)/i
_VERSION.3:   /version(?!\w)/i
DEFAULT.3:    /default(?!\w)/i
INPUT.3:      /input(?!\w)/i
RISK.3:       /risk(?!\w)/i
ALLOW.3:      /allow(?!\w)/i
DENY.3:       /deny(?!\w)/i
REQUIRE.3:    /require(?!\w)/i
LIMIT.3:      /limit(?!\w)/i
REDACT.3:     /redact(?!\w)/i
APPROVALS.3:  /approvals?(?!\w)/i
_BY.3:        /by(?!\w)/i
_ROLE.3:      /role(?!\w)/i
_FOR.3:       /for(?!\w)/i
_TO.3:        /to(?!\w)/i
_PER.3:       /per(?!\w)/i
_OF.3:        /of(?!\w)/i
_OUTPUT.3:    /output(?!\w)/i
_MATCHING.3:  /matching(?!\w)/i
_IF.3:        /if(?!\w)/i
_UNLESS.3:    /unless(?!\w)/i
_BECAUSE.3:   /because(?!\w)/i
_AS.3:        /as(?!\w)/i
_AND.3:       /and(?!\w)/i
_OR.3:        /or(?!\w)/i
NOT.3:        /not(?!\w)/i
_IN.3:        /in(?!\w)/i
_HAS.3:       /has(?!\w)/i
_MATCHES.3:   /matches(?!\w)/i
_FROM.3:      /from(?!\w)/i
_WITHIN.3:    /within(?!\w)/i
SINCE.3:      /since(?!\w)/i
AFTER.3:      /after(?!\w)/i
TRUE.3:       /true(?![\w.])/i
FALSE.3:      /false(?![\w.])/i
FUNCTION.3:   /(?:lower|length|exists)(?=\s*\()/i
HISTORY.3:    /(?:happened|succeeded|count)(?=\s*\()/i
SUM.3:        /sum(?=\s*\()/i

EQUALS:       "==" | "="
COMPARES:     "!=" | "<=" | ">=" | "<" | ">"
PLUS:         "+"
MINUS:        "-"
TIMES:        "*"
OVER:         "/"

WORD:         /[A-Za-z_][A-Za-z0-9_-]*/
PATH:         /(?!(?:allow|deny|require|redact|and|or|not|in|if|unless|because)(?![\w.]))[A-Za-z_]\w*(?:\.\w+)*/i
TARGET:       /[\w*](?:[\w*:\/@-]|\.(?=[\w*]))*/
QUANTITY:     /[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+(?!\w))?(?:%|[A-Za-z]\w*)?/
MONEY.2:      MONEY_BEFORE | MONEY_AFTER
MONEY_BEFORE: /(?!(?:AND|NOT|HAS|FOR|PER|SUM)\s)[A-Z]{3}[ \t]+[0-9]+(?:\.[0-9]+)?(?![\w.%])/
MONEY_AFTER:  /[0-9]+(?:\.[0-9]+)?[ \t]+(?!(?:AND|NOT|HAS|FOR|PER|SUM)(?!\w))[A-Z]{3}(?!\w)/
TEXT:         /"(?:[^"\\\n]|\\.)*"/
REGEX.2:      /\/(?:[^\/\\\n]|\\.)+\//

%ignore /[ \t\f\r\n]+/
%ignore /#[^\n]*/
"""
