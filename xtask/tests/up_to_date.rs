//! What is generated is what it would be now, and crates depend on each other as agreed.

#[test]
fn generated_files_are_fresh() {
    if let Err(error) = xtask::generate::check(&xtask::root()) {
        panic!("{error:#}");
    }
}

#[test]
fn crates_depend_on_each_other_as_agreed() {
    if let Err(error) = xtask::arch::check(&xtask::root()) {
        panic!("{error:#}");
    }
}
