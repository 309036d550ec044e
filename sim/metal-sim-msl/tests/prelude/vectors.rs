//! Every swizzle, read and written; constructors, operators and packed vectors.

use crate::library::Library;

const NAMES: [[char; 4]; 2] = [['x', 'y', 'z', 'w'], ['r', 'g', 'b', 'a']];

/// All words of `letters` out of the first `n` components, as indices.
fn words(n: usize, letters: u32) -> impl Iterator<Item = Vec<usize>> {
    (0..n.pow(letters)).map(move |word| {
        (0..letters)
            .map(|letter| word / n.pow(letter) % n)
            .collect()
    })
}

fn distinct(word: &[usize]) -> bool {
    word.iter()
        .enumerate()
        .all(|(i, letter)| !word[..i].contains(letter))
}

#[test]
fn every_swizzle_reads_and_writes_what_it_names() {
    for kind in ["vec", "packed_vec"] {
        let mut source = String::from("extern \"C\" void all(const int*, float* out, int) {\n");
        let mut expected: Vec<f32> = Vec::new();
        let numbers = ["1", "2", "3", "4"];
        for n in 2..=4 {
            let vector = format!("{kind}<float, {n}>");
            source += &format!(
                "const {vector} v{n} = vec<float, {n}>({});\n",
                numbers[..n].join(", ")
            );
            for (names, letters) in NAMES
                .iter()
                .flat_map(|names| (2..=4).map(move |letters| (names, letters)))
            {
                for word in words(n, letters) {
                    let name: String = word.iter().map(|&i| names[i]).collect();
                    source += &format!(
                        "{{ auto s = v{n}.{name}; static_assert(is_same_v<decltype(s), vec<float, {letters}>>); "
                    );
                    for (i, &component) in word.iter().enumerate() {
                        source += &format!("*out++ = s[{i}]; ");
                        expected.push(component as f32 + 1.0);
                    }
                    if distinct(&word) {
                        source += &format!(
                            "{vector} w = v{n}; w.{name} = vec<float, {letters}>(s) * 10; w.{name} += 1; "
                        );
                        for component in 0..n {
                            source += &format!("*out++ = w[{component}]; ");
                            let value = component as f32 + 1.0;
                            expected.push(if word.contains(&component) {
                                value * 10.0 + 1.0
                            } else {
                                value
                            });
                        }
                    }
                    source += "}\n";
                }
            }
        }
        source += "}\n";
        let library = Library::with(&format!("swizzles_{kind}"), &source, &["-O0"]);
        let got: Vec<f32> = library.map("all", &vec![0; expected.len()]);
        assert_eq!(
            got.len(),
            2 * (96 + 423 + 1248) + 2 * (2 * 2 + (6 + 6) * 3 + (12 + 24 + 24) * 4)
        );
        assert_eq!(got, expected, "{kind}");
    }
}

#[test]
fn vectors_are_made_of_parts_and_computed_by_component() {
    let library = Library::new("vectors", include_str!("vectors.cpp"));
    let check = |name: &str, expected: &[f32]| {
        let got: Vec<f32> = library.map(name, &vec![0; expected.len()]);
        assert_eq!(got, expected, "{name}");
    };
    check(
        "made",
        &[
            1.0, 2.0, 3.0, // float3 of two and one, one and two, three
            1.0, 2.0, 3.0, 1.0, 2.0, 3.0, //
            1.0, 2.0, 3.0, 4.0, // float4 in seven ways
            1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0,
            2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, //
            7.0, 7.0, 7.0, // one for all
        ],
    );
    check("converted", &[-3.0, 3.0, 250.0, 1.0, 0.0, 2.5, 1.0, 2.0]);
    check(
        "computed",
        &[
            5.0, 8.0, 3.0, -4.0, 4.0, 12.0, 4.0, 3.0, // + - * /
            3.0, 4.0, 9.0, 13.0, 1.0, 3.0, 2.0, 1.5, // scalars on either side
            1.0, 0.0, 1.0, 1.0, 0.0, 1.0, // < == !=
            -1.0, -2.0, 2.0, 3.0, 1.0, 2.0, // - ++ postfix
        ],
    );
    check(
        "integers",
        &[
            1.0, 2.0, 2.0, 1.0, 4.0, 6.0, 7.0, 14.0, 12.0, 40.0, 1.0, 1.0, 251.0, 8.0, 1.0, 0.0,
        ],
    );
    check(
        "packed",
        &[
            2.0, 4.0, 6.0, 4.0, 8.0, 12.0, 3.0, 6.0, 9.0, 5.0, 1.0, 1.0, 12.0, 20.0, 3.0, 0.0, 2.0,
        ],
    );
    // What is not named in braces is zero.
    check(
        "braced",
        &[
            1.0, 2.0, 3.0, 0.0, 5.0, 0.0, 0.0, 1.0, 2.0, 8.0, 9.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0,
            0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        ],
    );
    check(
        "indexed",
        &[10.0, 20.0, 30.0, 40.0, 100.0, 3.0, 8.0, 9.0, 0.0],
    );
}
