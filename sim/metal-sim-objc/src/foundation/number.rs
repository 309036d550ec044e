//! `NSNumber`: an `NSValue` whose type is one of C's numbers, read as any other of them.

use super::string;
use super::value::{SimValue, Stored};
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSComparisonResult, NSString};
use std::cmp::Ordering;
use std::ffi::{CStr, c_void};

define_class!(
    // SAFETY: a number is made by NSValue's initialiser, and there is no `Drop`.
    #[unsafe(super(SimValue, NSObject))]
    #[name = "NSNumber"]
    /// The class behind `NSNumber`.
    pub struct SimNumber;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimNumber {}

    impl SimNumber {
        #[unsafe(method_id(numberWithBool:))]
        fn with_bool(value: bool) -> Retained<Self> {
            new(&[u8::from(value)], c"c")
        }

        #[unsafe(method_id(numberWithChar:))]
        fn with_char(value: i8) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"c")
        }

        #[unsafe(method_id(numberWithUnsignedChar:))]
        fn with_unsigned_char(value: u8) -> Retained<Self> {
            new(&[value], c"C")
        }

        #[unsafe(method_id(numberWithShort:))]
        fn with_short(value: i16) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"s")
        }

        #[unsafe(method_id(numberWithUnsignedShort:))]
        fn with_unsigned_short(value: u16) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"S")
        }

        #[unsafe(method_id(numberWithInt:))]
        fn with_int(value: i32) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"i")
        }

        #[unsafe(method_id(numberWithUnsignedInt:))]
        fn with_unsigned_int(value: u32) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"I")
        }

        #[unsafe(method_id(numberWithLong:))]
        fn with_long(value: i64) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"q")
        }

        #[unsafe(method_id(numberWithUnsignedLong:))]
        fn with_unsigned_long(value: u64) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"Q")
        }

        #[unsafe(method_id(numberWithLongLong:))]
        fn with_long_long(value: i64) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"q")
        }

        #[unsafe(method_id(numberWithUnsignedLongLong:))]
        fn with_unsigned_long_long(value: u64) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"Q")
        }

        #[unsafe(method_id(numberWithInteger:))]
        fn with_integer(value: isize) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"q")
        }

        #[unsafe(method_id(numberWithUnsignedInteger:))]
        fn with_unsigned_integer(value: usize) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"Q")
        }

        #[unsafe(method_id(numberWithFloat:))]
        fn with_float(value: f32) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"f")
        }

        #[unsafe(method_id(numberWithDouble:))]
        fn with_double(value: f64) -> Retained<Self> {
            new(&value.to_ne_bytes(), c"d")
        }

        #[unsafe(method(boolValue))]
        fn bool_value(&self) -> bool {
            self.number().is_true()
        }

        #[unsafe(method(charValue))]
        fn char_value(&self) -> i8 {
            self.number().bits() as i8
        }

        #[unsafe(method(unsignedCharValue))]
        fn unsigned_char_value(&self) -> u8 {
            self.number().bits() as u8
        }

        #[unsafe(method(shortValue))]
        fn short_value(&self) -> i16 {
            self.number().bits() as i16
        }

        #[unsafe(method(unsignedShortValue))]
        fn unsigned_short_value(&self) -> u16 {
            self.number().bits() as u16
        }

        #[unsafe(method(intValue))]
        fn int_value(&self) -> i32 {
            self.number().bits() as i32
        }

        #[unsafe(method(unsignedIntValue))]
        fn unsigned_int_value(&self) -> u32 {
            self.number().bits() as u32
        }

        #[unsafe(method(longValue))]
        fn long_value(&self) -> i64 {
            self.number().bits() as i64
        }

        #[unsafe(method(unsignedLongValue))]
        fn unsigned_long_value(&self) -> u64 {
            self.number().bits()
        }

        #[unsafe(method(longLongValue))]
        fn long_long_value(&self) -> i64 {
            self.number().bits() as i64
        }

        #[unsafe(method(unsignedLongLongValue))]
        fn unsigned_long_long_value(&self) -> u64 {
            self.number().bits()
        }

        #[unsafe(method(integerValue))]
        fn integer_value(&self) -> isize {
            self.number().bits() as isize
        }

        #[unsafe(method(unsignedIntegerValue))]
        fn unsigned_integer_value(&self) -> usize {
            self.number().bits() as usize
        }

        #[unsafe(method(floatValue))]
        fn float_value(&self) -> f32 {
            self.number().as_f64() as f32
        }

        #[unsafe(method(doubleValue))]
        fn double_value(&self) -> f64 {
            self.number().as_f64()
        }

        #[unsafe(method(compare:))]
        fn compare(&self, other: &SimNumber) -> NSComparisonResult {
            self.number().order(other.number()).into()
        }

        #[unsafe(method(isEqualToNumber:))]
        fn is_equal_to_number(&self, other: &SimNumber) -> bool {
            self.number().order(other.number()).is_eq()
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimNumber>())
                .is_some_and(|other| self.number().order(other.number()).is_eq())
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            // Equal numbers of different types are equal as doubles.
            string::hash_of(&(self.number().as_f64() + 0.0).to_ne_bytes())
        }

        #[unsafe(method_id(stringValue))]
        fn string_value(&self) -> Retained<NSString> {
            string::new(&self.number().shown())
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            string::new(&self.number().shown())
        }
    }
);

/// What a number holds.
#[derive(Clone, Copy)]
enum Number {
    Signed(i64),
    Unsigned(u64),
    Single(f32),
    Double(f64),
}

impl SimNumber {
    fn number(&self) -> Number {
        let value: &SimValue = self;
        Number::read(value.ivars())
    }
}

impl Number {
    fn read(stored: &Stored) -> Self {
        match stored.encoding().to_bytes() {
            b"c" => Self::Signed(i8::from_ne_bytes(stored.array()).into()),
            b"s" => Self::Signed(i16::from_ne_bytes(stored.array()).into()),
            b"i" | b"l" => Self::Signed(i32::from_ne_bytes(stored.array()).into()),
            b"q" => Self::Signed(i64::from_ne_bytes(stored.array())),
            b"f" => Self::Single(f32::from_ne_bytes(stored.array())),
            b"d" => Self::Double(f64::from_ne_bytes(stored.array())),
            // Shorter ones have zeros behind them.
            _ if cfg!(target_endian = "little") => {
                Self::Unsigned(u64::from_le_bytes(stored.array()))
            }
            _ => unreachable!("the simulator runs on little-endian machines"),
        }
    }

    fn is_true(self) -> bool {
        match self {
            Self::Signed(value) => value != 0,
            Self::Unsigned(value) => value != 0,
            Self::Single(value) => value != 0.0,
            Self::Double(value) => value != 0.0,
        }
    }

    /// The number as an integer, from which narrower ones are cut.
    fn bits(self) -> u64 {
        match self {
            Self::Signed(value) => value as u64,
            Self::Unsigned(value) => value,
            Self::Single(_) | Self::Double(_) => {
                let value = self.as_f64();
                if value < 0.0 {
                    value as i64 as u64
                } else {
                    value as u64
                }
            }
        }
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Signed(value) => value as f64,
            Self::Unsigned(value) => value as f64,
            Self::Single(value) => value.into(),
            Self::Double(value) => value,
        }
    }

    /// The order of two numbers by value. NaNs are equal to each other and below the rest.
    fn order(self, other: Self) -> Ordering {
        let whole = |number| match number {
            Self::Signed(value) => Some(i128::from(value)),
            Self::Unsigned(value) => Some(i128::from(value)),
            _ => None,
        };
        if let (Some(left), Some(right)) = (whole(self), whole(other)) {
            return left.cmp(&right);
        }
        let (left, right) = (self.as_f64(), other.as_f64());
        left.partial_cmp(&right)
            .unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
    }

    fn shown(self) -> String {
        match self {
            Self::Signed(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Single(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
        }
    }
}

fn new(bytes: &[u8], encoding: &CStr) -> Retained<SimNumber> {
    let this = SimNumber::alloc().set_ivars(());
    let bytes: *const c_void = bytes.as_ptr().cast();
    // SAFETY: NSValue's initialiser has this signature, and the bytes are of that type.
    unsafe { msg_send![super(this), initWithBytes: bytes, objCType: encoding.as_ptr()] }
}

#[cfg(test)]
mod tests {
    use objc2_foundation::NSNumber;

    #[test]
    fn numbers_are_compared_by_value() {
        let (small, large) = (NSNumber::new_i8(-1), NSNumber::new_u64(u64::MAX));
        assert!(small < large);
        assert_eq!(small.as_u64(), u64::MAX);
        assert_ne!(small, large);
        assert_eq!(NSNumber::new_f32(3.0), NSNumber::new_u8(3));
        assert_eq!(NSNumber::new_f64(-2.5).as_i32(), -2);
        assert_eq!(NSNumber::new_f64(0.1).to_string(), "0.1");
    }
}
