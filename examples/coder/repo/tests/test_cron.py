import unittest
from datetime import datetime
from itertools import islice

from rota import Cron, CronError

MONDAY = datetime(2024, 5, 6, 12, 0)


class ParseTest(unittest.TestCase):
    def test_every_form_of_a_field_is_understood(self):
        cron = Cron.parse("*/20 9-11 1,15 jan-mar *")
        self.assertEqual(cron.minutes, {0, 20, 40})
        self.assertEqual(cron.hours, {9, 10, 11})
        self.assertEqual(cron.days, {1, 15})
        self.assertEqual(cron.months, {1, 2, 3})
        self.assertEqual(cron.weekdays, set(range(7)))

    def test_a_start_with_a_step_runs_to_the_end(self):
        self.assertEqual(Cron.parse("50/3 * * * *").minutes, {50, 53, 56, 59})

    def test_seven_is_sunday(self):
        self.assertEqual(Cron.parse("0 0 * * 7").weekdays, Cron.parse("0 0 * * sun").weekdays)

    def test_shorthands_stand_for_expressions(self):
        self.assertEqual(Cron.parse("@daily"), Cron.parse("0 0 * * *"))

    def test_nonsense_is_refused(self):
        for text in ("", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "* * * * someday", "*/0 * * * *"):
            with self.subTest(text), self.assertRaises(CronError):
                Cron.parse(text)


class DueTest(unittest.TestCase):
    def test_the_next_minute_is_later_than_now(self):
        self.assertEqual(Cron.parse("0 12 * * *").next_after(MONDAY), datetime(2024, 5, 7, 12, 0))
        self.assertEqual(Cron.parse("* * * * *").next_after(MONDAY), datetime(2024, 5, 6, 12, 1))

    def test_working_days_skip_the_weekend(self):
        friday_evening = datetime(2024, 5, 10, 18, 0)
        self.assertEqual(Cron.parse("30 9 * * mon-fri").next_after(friday_evening), datetime(2024, 5, 13, 9, 30))

    def test_one_restricted_day_field_must_fit(self):
        self.assertEqual(Cron.parse("0 8 13 * *").next_after(MONDAY), datetime(2024, 5, 13, 8, 0))

    def test_of_two_restricted_day_fields_either_is_enough(self):
        due = islice(Cron.parse("0 8 13 * fri").upcoming(MONDAY), 3)
        self.assertEqual([moment.day for moment in due], [10, 13, 17])

    def test_leap_days_are_found(self):
        self.assertEqual(Cron.parse("0 0 29 2 *").next_after(MONDAY), datetime(2028, 2, 29))

    def test_a_day_that_does_not_exist_is_an_error(self):
        with self.assertRaisesRegex(CronError, "does not exist"):
            Cron.parse("0 0 31 2 *").next_after(MONDAY)

    def test_a_moment_matches_or_not(self):
        cron = Cron.parse("0 12 * * mon")
        self.assertTrue(cron.matches(MONDAY))
        self.assertFalse(cron.matches(MONDAY.replace(hour=13)))
