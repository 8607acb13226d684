//! The program `brickd`. Everything is in the library.

fn main() -> std::process::ExitCode {
    mboxfs_brickd::main()
}
