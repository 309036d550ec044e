//! The protocols of `NSObject` and Foundation with their methods. objc2 holds a class that
//! adopts a protocol against these descriptions in debug builds.

use crate::protocol::{self, Kind};
use crate::selector::Sel;
use std::ffi::CStr;

/// A method's name and its type encoding.
type Method = (&'static CStr, &'static CStr);

/// A protocol, what it adopts, and its methods of each kind.
struct Declared {
    name: &'static CStr,
    adopts: &'static [&'static CStr],
    required: &'static [Method],
    optional: &'static [Method],
    of_class: &'static [Method],
}

const PROTOCOLS: &[Declared] = &[
    Declared {
        name: c"NSObject",
        adopts: &[],
        required: &[
            (c"isEqual:", c"C@:@"),
            (c"hash", c"Q@:"),
            (c"superclass", c"#@:"),
            (c"class", c"#@:"),
            (c"self", c"@@:"),
            (c"performSelector:", c"@@::"),
            (c"performSelector:withObject:", c"@@::@"),
            (c"performSelector:withObject:withObject:", c"@@::@@"),
            (c"isProxy", c"C@:"),
            (c"isKindOfClass:", c"C@:#"),
            (c"isMemberOfClass:", c"C@:#"),
            (c"conformsToProtocol:", c"C@:@"),
            (c"respondsToSelector:", c"C@::"),
            (c"retain", c"@@:"),
            (c"release", c"Vv@:"),
            (c"autorelease", c"@@:"),
            (c"retainCount", c"Q@:"),
            (c"zone", c"^{_NSZone=}@:"),
            (c"description", c"@@:"),
        ],
        optional: &[(c"debugDescription", c"@@:")],
        of_class: &[],
    },
    Declared {
        name: c"NSCopying",
        adopts: &[],
        required: &[(c"copyWithZone:", c"@@:^{_NSZone=}")],
        optional: &[],
        of_class: &[],
    },
    Declared {
        name: c"NSMutableCopying",
        adopts: &[],
        required: &[(c"mutableCopyWithZone:", c"@@:^{_NSZone=}")],
        optional: &[],
        of_class: &[],
    },
    Declared {
        name: c"NSCoding",
        adopts: &[],
        required: &[(c"encodeWithCoder:", c"v@:@"), (c"initWithCoder:", c"@@:@")],
        optional: &[],
        of_class: &[],
    },
    Declared {
        name: c"NSSecureCoding",
        adopts: &[c"NSCoding"],
        required: &[],
        optional: &[],
        of_class: &[(c"supportsSecureCoding", c"C@:")],
    },
    Declared {
        name: c"NSFastEnumeration",
        adopts: &[],
        required: &[(
            c"countByEnumeratingWithState:objects:count:",
            c"Q@:^{?=Q^@^Q[5Q]}^@Q",
        )],
        optional: &[],
        of_class: &[],
    },
];

pub(crate) fn register() {
    for declared in PROTOCOLS {
        protocol::declare(&[(declared.name, declared.adopts)]);
        let protocol = protocol::by_name(declared.name).expect("declared just now");
        let kinds = [
            (declared.required, true, true),
            (declared.optional, false, true),
            (declared.of_class, true, false),
        ];
        for (methods, required, instance) in kinds {
            for (name, types) in methods {
                protocol.describe(Sel::new(name), types, Kind { required, instance });
            }
        }
    }
}
