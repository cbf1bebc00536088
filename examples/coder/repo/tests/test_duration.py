import unittest
from datetime import timedelta

from rota import DurationError, format_duration, parse_duration


class ParseTest(unittest.TestCase):
    def test_units_add_up(self):
        self.assertEqual(parse_duration("1h 30m"), timedelta(minutes=90))
        self.assertEqual(parse_duration("1w2d"), timedelta(days=9))

    def test_long_names_and_fractions_are_understood(self):
        self.assertEqual(parse_duration("2 days, 1.5 hours"), timedelta(days=2, minutes=90))

    def test_a_leading_minus_counts_for_the_whole(self):
        self.assertEqual(parse_duration("-1h 15m"), timedelta(minutes=-75))

    def test_a_unit_counts_only_once(self):
        with self.assertRaisesRegex(DurationError, "twice"):
            parse_duration("1h 2 hours")

    def test_what_is_no_duration_is_refused(self):
        for text in ("", "soon", "5", "5 parsecs", "1h and 5m", "1h!"):
            with self.subTest(text), self.assertRaises(DurationError):
                parse_duration(text)


class FormatTest(unittest.TestCase):
    def test_the_two_largest_units_are_shown(self):
        self.assertEqual(format_duration(timedelta(days=8, minutes=5)), "1w 1d")
        self.assertEqual(format_duration(timedelta(minutes=90)), "1h 30m")

    def test_more_parts_show_more(self):
        self.assertEqual(format_duration(timedelta(hours=1, seconds=61), parts=3), "1h 1m 1s")

    def test_nothing_is_zero_seconds(self):
        self.assertEqual(format_duration(timedelta(0)), "0s")
        self.assertEqual(format_duration(timedelta(milliseconds=-20)), "0s")

    def test_what_was_written_is_read_again(self):
        for text in ("1h 30m", "-15m", "2d", "1w 3d"):
            self.assertEqual(format_duration(parse_duration(text)), text)
