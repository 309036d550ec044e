//! `NSDate`: a moment, as seconds since the first instant of 2001.

use super::string;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSComparisonResult, NSCopying, NSString, NSZone};
use std::time::{SystemTime, UNIX_EPOCH};

/// From 1970 to 2001, in seconds.
const REFERENCE: f64 = 978_307_200.0;
/// The dates that Foundation calls distant.
const FUTURE: f64 = 63_113_904_000.0;
const PAST: f64 = -63_114_076_800.0;

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSDate"]
    #[ivars = f64]
    /// The class behind `NSDate`.
    pub struct SimDate;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimDate {}

    // SAFETY: immutable, so a copy is the same date.
    unsafe impl NSCopying for SimDate {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    impl SimDate {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            init_with(this, now())
        }

        #[unsafe(method_id(initWithTimeIntervalSinceReferenceDate:))]
        fn init_since_reference(this: Allocated<Self>, seconds: f64) -> Retained<Self> {
            init_with(this, seconds)
        }

        #[unsafe(method_id(initWithTimeIntervalSinceNow:))]
        fn init_since_now(this: Allocated<Self>, seconds: f64) -> Retained<Self> {
            init_with(this, now() + seconds)
        }

        #[unsafe(method_id(initWithTimeIntervalSince1970:))]
        fn init_since_1970(this: Allocated<Self>, seconds: f64) -> Retained<Self> {
            init_with(this, seconds - REFERENCE)
        }

        #[unsafe(method_id(date))]
        fn date() -> Retained<Self> {
            init_with(Self::alloc(), now())
        }

        #[unsafe(method_id(now))]
        fn now() -> Retained<Self> {
            init_with(Self::alloc(), now())
        }

        #[unsafe(method_id(distantFuture))]
        fn distant_future() -> Retained<Self> {
            init_with(Self::alloc(), FUTURE)
        }

        #[unsafe(method_id(distantPast))]
        fn distant_past() -> Retained<Self> {
            init_with(Self::alloc(), PAST)
        }

        #[unsafe(method_id(dateWithTimeIntervalSinceReferenceDate:))]
        fn since_reference(seconds: f64) -> Retained<Self> {
            init_with(Self::alloc(), seconds)
        }

        #[unsafe(method_id(dateWithTimeIntervalSinceNow:))]
        fn since_now(seconds: f64) -> Retained<Self> {
            init_with(Self::alloc(), now() + seconds)
        }

        #[unsafe(method_id(dateWithTimeIntervalSince1970:))]
        fn since_1970(seconds: f64) -> Retained<Self> {
            init_with(Self::alloc(), seconds - REFERENCE)
        }

        #[unsafe(method_id(dateByAddingTimeInterval:))]
        fn adding(&self, seconds: f64) -> Retained<Self> {
            init_with(Self::alloc(), self.ivars() + seconds)
        }

        #[unsafe(method(timeIntervalSinceReferenceDate))]
        fn seconds_since_reference(&self) -> f64 {
            *self.ivars()
        }

        #[unsafe(method(timeIntervalSinceReferenceDate))]
        fn seconds_now() -> f64 {
            now()
        }

        #[unsafe(method(timeIntervalSinceNow))]
        fn seconds_since_now(&self) -> f64 {
            self.ivars() - now()
        }

        #[unsafe(method(timeIntervalSince1970))]
        fn seconds_since_1970(&self) -> f64 {
            self.ivars() + REFERENCE
        }

        #[unsafe(method(timeIntervalSinceDate:))]
        fn seconds_since(&self, other: &SimDate) -> f64 {
            self.ivars() - other.ivars()
        }

        #[unsafe(method(compare:))]
        fn compare(&self, other: &SimDate) -> NSComparisonResult {
            self.ivars().total_cmp(other.ivars()).into()
        }

        #[unsafe(method(isEqualToDate:))]
        fn is_equal_to_date(&self, other: &SimDate) -> bool {
            self.ivars() == other.ivars()
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimDate>())
                .is_some_and(|other| self.ivars() == other.ivars())
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            string::hash_of(&(self.ivars() + 0.0).to_ne_bytes())
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            string::new(&shown(*self.ivars()))
        }
    }
);

fn now() -> f64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0.0, |time| time.as_secs_f64()) - REFERENCE
}

/// A date as Foundation prints it, in universal time.
fn shown(date: f64) -> String {
    let seconds = (date + REFERENCE).floor() as i64;
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from a count of days, by eras of 400 years that begin in March.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000")
}

fn init_with(this: Allocated<SimDate>, seconds: f64) -> Retained<SimDate> {
    let this = this.set_ivars(seconds);
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use objc2_foundation::NSDate;

    #[test]
    fn dates_count_from_2001_and_are_printed() {
        assert_eq!(shown(0.0), "2001-01-01 00:00:00 +0000");
        assert_eq!(shown(-REFERENCE), "1970-01-01 00:00:00 +0000");
        assert_eq!(shown(FUTURE), "4001-01-01 00:00:00 +0000");
        assert_eq!(shown(PAST), "0000-12-30 00:00:00 +0000");
        assert_eq!(shown(730_984_271.5), "2024-03-01 11:11:11 +0000");
        let early = NSDate::dateWithTimeIntervalSince1970(1000.0);
        assert_eq!(early.timeIntervalSince1970(), 1000.0);
        assert!(NSDate::now().timeIntervalSinceDate(&early) > 0.0);
        assert_eq!(
            early.compare(&NSDate::distantFuture()),
            NSComparisonResult::Ascending
        );
    }
}
