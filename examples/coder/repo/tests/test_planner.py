import unittest
from datetime import timedelta

from rota import clashes, common_slots, coverage, free_slots
from tests.clock import span

DAY = span("9:00", "17:00")


class FreeSlotsTest(unittest.TestCase):
    def test_an_empty_diary_is_free_all_day(self):
        self.assertEqual(free_slots([], DAY), [DAY])

    def test_gaps_between_meetings_are_offered(self):
        busy = [span("9:00", "10:00"), span("11:30", "12:00")]
        self.assertEqual(free_slots(busy, DAY), [span("10:00", "11:30"), span("12:00", "17:00")])

    def test_short_gaps_are_left_out(self):
        busy = [span("9:15", "12:00"), span("13:00", "17:00")]
        self.assertEqual(free_slots(busy, DAY, timedelta(minutes=30)), [span("12:00", "13:00")])

    def test_a_gap_of_exactly_the_asked_length_is_offered(self):
        busy = [span("9:00", "12:00"), span("12:30", "17:00")]
        self.assertEqual(free_slots(busy, DAY, timedelta(minutes=30)), [span("12:00", "12:30")])


class CommonSlotsTest(unittest.TestCase):
    def test_everybody_must_be_free(self):
        diaries = {"ada": [span("9:00", "12:00")], "bob": [span("11:00", "14:00"), span("16:00", "17:00")]}
        self.assertEqual(common_slots(diaries, DAY), [span("14:00", "16:00")])


class ClashesTest(unittest.TestCase):
    def test_overlapping_entries_clash(self):
        early, late = span("9:00", "11:00"), span("10:00", "12:00")
        self.assertEqual(clashes([late, early]), [(early, late)])

    def test_back_to_back_entries_do_not_clash(self):
        self.assertEqual(clashes([span("9:00", "10:00"), span("10:00", "11:00")]), [])

    def test_a_long_entry_clashes_with_every_later_one(self):
        long, first, second = span("9:00", "17:00"), span("10:00", "11:00"), span("12:00", "13:00")
        self.assertEqual(clashes([long, first, second]), [(long, first), (long, second)])


class CoverageTest(unittest.TestCase):
    def test_half_of_the_day_is_covered(self):
        self.assertEqual(coverage([span("9:00", "12:00"), span("11:00", "13:00")], DAY), 0.5)

    def test_shifts_outside_do_not_count(self):
        self.assertEqual(coverage([span("7:00", "9:00")], DAY), 0.0)
