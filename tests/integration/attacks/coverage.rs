//! Every row of the matrix has its test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::hostile::rows::ROWS;

#[test]
fn every_row_of_the_attack_matrix_has_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/attacks");
    let mut rows = BTreeSet::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(path).unwrap();
        for name in text.split("fn at_").skip(1) {
            let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
            rows.extend(digits.parse::<u32>()); // without digits it is the line above
        }
    }
    let missing: Vec<u32> = (1..=ROW_COUNT).filter(|row| !rows.contains(row)).collect();
    assert_eq!(missing, Vec::<u32>::new(), "rows without a test");
}

#[test]
fn every_attack_that_is_written_to_files_has_a_name_of_its_own() {
    let lab = super::vehicle::lab();
    let mut names = BTreeSet::new();
    for (row, make) in ROWS {
        for attack in make(lab) {
            assert_eq!(attack.row, *row);
            assert!(names.insert(attack.id()), "{} is there twice", attack.id());
        }
    }
}

const ROW_COUNT: u32 = 50;
