//! `mboxfs`: see the library.

fn main() -> std::process::ExitCode {
    mboxfs_cli::main()
}
