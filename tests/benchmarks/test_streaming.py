"""What a provider may cost over a bare HTTP client, in CPU time of one thread, measured turn about."""

from benchmarks.streaming import measure


def test_a_provider_costs_a_millisecond_before_the_first_token_and_20_microseconds_a_token_at_most() -> None:
    found = measure(rounds=7, tokens=100)
    assert [one.dialect for one in found] == ["anthropic", "google", "openai-chat", "openai-responses"]
    for one in found:
        assert one.more.first_us <= 1000
        assert one.more.token_us <= 20
