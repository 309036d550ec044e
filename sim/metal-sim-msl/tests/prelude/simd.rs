//! Functions of simdgroups and quads, with all lanes and with some, against the same thing said in Rust.

use std::sync::LazyLock;

use crate::{lanes, library::Library};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("simd", include_str!("simd.cpp")));

/// All lanes; those of a small threadgroup; some in the middle; one; every quad differently.
const ACTIVE: [u32; 6] = [!0, 0x3ff, 0x00ff_f0f0, 1 << 17, 0x8421_f7a5, 0x5555_5555];

fn value(lane: u32) -> i64 {
    i64::from(lane * 37 % 50) - 13
}

/// What a lane of `active` gets, for `width` 32 or 4.
struct Seen {
    lane: u32,
    width: u32,
    active: u32,
}

impl Seen {
    fn first(&self) -> u32 {
        self.lane / self.width * self.width
    }

    fn lanes(&self) -> impl Iterator<Item = u32> + '_ {
        (self.first()..self.first() + self.width).filter(|lane| self.active >> lane & 1 == 1)
    }

    fn fold(&self, f: impl Fn(i64, i64) -> i64) -> i64 {
        self.lanes()
            .map(value)
            .reduce(f)
            .expect("the lane itself is active")
    }

    /// The value of a lane, counted in this group; its own if there is no such active lane.
    fn from(&self, lane: i64) -> i64 {
        let inside = (0..i64::from(self.width)).contains(&lane);
        let lane = if inside {
            self.first() + lane as u32
        } else {
            self.lane
        };
        value(if self.active >> lane & 1 == 1 {
            lane
        } else {
            self.lane
        })
    }

    /// In the order of simd.cpp.
    fn expected(&self) -> Vec<i64> {
        let (own, width) = (i64::from(self.lane % self.width), i64::from(self.width));
        let before = |inclusive: bool| {
            let end = self.lane + u32::from(inclusive);
            self.lanes().filter(move |&lane| lane < end).map(value)
        };
        let ballot: i64 = self
            .lanes()
            .filter(|&l| value(l) > 10)
            .map(|l| 1 << (l - self.first()))
            .sum();
        let mask: i64 = self.lanes().map(|l| 1 << (l - self.first())).sum();
        let mut all = vec![
            self.fold(|a, b| a + b),
            self.fold(|a, b| (a * b) as i32 as i64),
            self.fold(i64::max),
            self.fold(i64::min),
            self.fold(|a, b| a & b),
            self.fold(|a, b| a | b),
            self.fold(|a, b| a ^ b),
            before(true).sum(),
            before(false).sum(),
            before(true).fold(1, |a, b| (a * b) as i32 as i64),
            before(false).fold(1, |a, b| (a * b) as i32 as i64),
            self.from(3),
            self.from(2),
            self.from(own + 1),
            self.from(own - 2),
            self.from(own ^ 3),
            self.from((own + 3) % width),
            self.from((own - 1).rem_euclid(width)),
            value(self.lanes().next().expect("the lane itself is active")),
            ballot,
            mask,
            i64::from(self.lanes().all(|l| value(l) > -10)),
            i64::from(self.lanes().any(|l| value(l) > 30)),
            i64::from(self.lanes().next() == Some(self.lane)),
            i64::from(mask == (1 << width) - 1),
            i64::from(ballot != 0),
        ];
        // The value shifted in is 1000 more than the lane's own.
        for (shift, modulo) in [(3, width), (-1, width), (1, 2), (-1, 2)] {
            let at = own % modulo + shift;
            let lane = own - own % modulo + at.rem_euclid(modulo);
            let active = self.active >> (self.first() + lane as u32) & 1 == 1;
            let filled = active && !(0..modulo).contains(&at);
            all.push(self.from(lane) + if filled { 1000 } else { 0 });
        }
        all
    }
}

#[test]
fn lanes_that_meet_get_what_metal_says() {
    for (width, name) in [(32, "simd_all_functions"), (4, "quad_all_functions")] {
        for active in ACTIVE {
            let got = lanes::run(active, |lane| {
                LIBRARY.map::<i32, i32>(name, &[value(lane) as i32; 30])
            });
            for (lane, got) in (0..).zip(got) {
                let Some(got) = got else { continue };
                let got: Vec<i64> = got.into_iter().map(i64::from).collect();
                // Ballots of 32 lanes are unsigned.
                let expected: Vec<i64> = Seen {
                    lane,
                    width,
                    active,
                }
                .expected()
                .into_iter()
                .map(|x| i64::from(x as i32))
                .collect();
                assert_eq!(got, expected, "{name}, lane {lane} of {active:#x}");
            }
        }
    }
}

#[test]
fn every_type_that_fits_travels() {
    let got = lanes::run(!0, |lane| LIBRARY.map::<u32, u32>("types", &[lane]));
    assert_eq!(
        got,
        vec![Some(vec![0]); 32],
        "bits of the checks of types() that failed"
    );
}

#[test]
fn sums_of_floats_go_from_the_first_lane_on() {
    let value = |lane: u32| 1.0f32 / (lane as f32 + 3.0);
    let got = lanes::run(!0, |lane| LIBRARY.map::<f32, f32>("sum", &[value(lane)]));
    let sum = (1..32).fold(value(0), |sum, lane| sum + value(lane));
    assert_eq!(got, vec![Some(vec![sum]); 32]);
}
