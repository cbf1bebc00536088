import unittest
from datetime import timedelta

from rota import Interval, merge, subtract, total
from tests.clock import at, span


class IntervalTest(unittest.TestCase):
    def test_an_interval_has_a_length(self):
        self.assertEqual(span("9:00", "10:30").length, timedelta(minutes=90))
        with self.assertRaises(ValueError):
            Interval(at("10:00"), at("10:00"))

    def test_touching_intervals_do_not_overlap(self):
        self.assertFalse(span("9:00", "10:00").overlaps(span("10:00", "11:00")))
        self.assertIsNone(span("10:00", "11:00").common(span("9:00", "10:00")))

    def test_the_common_part_lies_in_both(self):
        self.assertEqual(span("9:00", "11:00").common(span("10:00", "12:00")), span("10:00", "11:00"))


class MergeTest(unittest.TestCase):
    def test_overlapping_intervals_become_one(self):
        self.assertEqual(merge([span("10:00", "12:00"), span("9:00", "11:00")]), [span("9:00", "12:00")])

    def test_an_interval_inside_another_disappears(self):
        self.assertEqual(merge([span("9:00", "12:00"), span("10:00", "11:00")]), [span("9:00", "12:00")])

    def test_touching_intervals_become_one(self):
        self.assertEqual(merge([span("9:00", "10:00"), span("10:00", "11:00")]), [span("9:00", "11:00")])

    def test_a_gap_is_kept(self):
        apart = [span("9:00", "10:00"), span("10:01", "11:00")]
        self.assertEqual(merge(apart), apart)

    def test_nothing_remains_nothing(self):
        self.assertEqual(merge([]), [])


class SubtractTest(unittest.TestCase):
    def test_a_cut_in_the_middle_leaves_both_ends(self):
        remaining = subtract(span("9:00", "17:00"), [span("12:00", "13:00")])
        self.assertEqual(remaining, [span("9:00", "12:00"), span("13:00", "17:00")])

    def test_cuts_at_the_edges_leave_the_middle(self):
        remaining = subtract(span("9:00", "17:00"), [span("8:00", "10:00"), span("16:00", "18:00")])
        self.assertEqual(remaining, [span("10:00", "16:00")])

    def test_cuts_elsewhere_change_nothing(self):
        whole = span("9:00", "10:00")
        self.assertEqual(subtract(whole, [span("8:00", "9:00"), span("11:00", "12:00")]), [whole])

    def test_a_cut_of_everything_leaves_nothing(self):
        self.assertEqual(subtract(span("9:00", "10:00"), [span("8:00", "11:00")]), [])


class TotalTest(unittest.TestCase):
    def test_time_covered_twice_counts_once(self):
        self.assertEqual(total([span("9:00", "11:00"), span("10:00", "12:00")]), timedelta(hours=3))
