//! A mail server on a test host: an own Postfix and an own Dovecot on one spool, and the clients to try them by hand.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::host::{Host, Lab};
use super::mail_conf::{self, PASSWORD};
use super::wait::{START_MAX, holds_within, wait_for};

/// The network clients; see the file's head for its modes.
const CLIENTS: &str = include_str!("clients.py");

/// How long a stopped daemon may take to go before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Postfix and Dovecot of one host. Dropping it stops both; the host's own end would do so as well.
pub(crate) struct MailServer {
    host: Host,
    spool: PathBuf,
}

/// What a mailbox looks like over IMAP or POP3: one text per message, headers and body, LF line ends.
pub(crate) type Messages = Vec<String>;

impl MailServer {
    /// Starts both on `spool`, which must be there as the host sees it (`2775 root:mail`, see `make_spool`), and waits
    /// until SMTP, IMAP and POP3 greet.
    #[track_caller]
    pub(crate) fn start(host: &Host, spool: &Path) -> Self {
        Self::start_with(host, spool, "")
    }

    fn start_with(host: &Host, spool: &Path, more: &str) -> Self {
        let this = Self {
            host: host.clone(),
            spool: spool.to_owned(),
        };
        this.configure(more);
        this.boot();
        this
    }

    /// One for each host of a lab, started side by side.
    #[track_caller]
    pub(crate) fn start_both(lab: &Lab, spools: &[PathBuf; 2]) -> [Self; 2] {
        Self::start_both_with(lab, spools, "")
    }

    /// With more lines in Dovecot's configuration; SPOOL in them is each host's own.
    #[track_caller]
    pub(crate) fn start_both_with(lab: &Lab, spools: &[PathBuf; 2], more: &str) -> [Self; 2] {
        std::thread::scope(|scope| {
            let starting = [0, 1].map(|i| scope.spawn(move || Self::start_with(lab.hosts()[i], &spools[i], more)));
            starting.map(|thread| thread.join().expect("the reason was printed by the thread that failed"))
        })
    }

    /// Starts both programs again after `stop` or `Host::kill_all`; queue and indexes are what was left.
    #[track_caller]
    pub(crate) fn boot(&self) {
        let log = |name: &str| self.host.dir().join(name);
        self.host.run_daemon("postfix", &["start"], &log("postfix/start.log"));
        self.host
            .run_daemon("dovecot", &["-c", &self.dovecot_conf()], &log("dovecot/start.log"));
        for (port, greeting) in [("25", "220 "), ("143", "* OK"), ("110", "+OK")] {
            let what = format!("{}: port {port} greets", self.host.name());
            wait_for(&what, START_MAX, || self.greets(port, greeting));
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    /// What Postfix logged.
    pub(crate) fn maillog(&self) -> String {
        fs::read_to_string(self.host.dir().join("postfix/maillog")).unwrap_or_default()
    }

    /// What Dovecot and its LDA logged.
    pub(crate) fn dovecot_log(&self) -> String {
        fs::read_to_string(self.host.dir().join("dovecot/log")).unwrap_or_default()
    }

    /// Messages that Postfix still has to deliver, one JSON line each.
    #[track_caller]
    pub(crate) fn queue(&self) -> Vec<String> {
        self.host.run("postqueue", &["-j"]).lines().map(str::to_owned).collect()
    }

    /// Lists and prints a mailbox through s-nail, as its owner and without changing it.
    #[track_caller]
    pub(crate) fn s_nail_read(&self, user: &str) -> String {
        let mut command = self.host.command_as(user, "s-nail");
        command.args(["-n", "-R", "-#", "-f"]).arg(self.spool.join(user));
        let output = feed(&mut command, "headers *\nType *\nxit\n");
        success("s-nail", &output)
    }

    /// Sends a message the way a user does at a shell, through s-nail and sendmail(1). Returns once it is queued.
    #[track_caller]
    pub(crate) fn s_nail_send(&self, from: &str, to: &str, subject: &str, body: &str) {
        let mut command = self.host.command_as(from, "s-nail");
        command.args([
            "-n",
            "-S",
            "sendwait",
            "-S",
            "mta=/usr/sbin/sendmail",
            "-s",
            subject,
            to,
        ]);
        success("s-nail", &feed(&mut command, body));
    }

    /// Delivers a message through dovecot-lda, as a mail server that does not use Postfix's local(8) would.
    #[track_caller]
    pub(crate) fn lda_deliver(&self, user: &str, message: &str) {
        let mut command = self.host.command("/usr/lib/dovecot/dovecot-lda");
        command.args(["-c", &self.dovecot_conf(), "-d", user, "-f", "lda@rig.test"]);
        success("dovecot-lda", &feed(&mut command, message));
    }

    /// Every message of a mailbox over IMAP.
    #[track_caller]
    pub(crate) fn imap_read(&self, user: &str) -> Messages {
        self.read_over("imap", user)
    }

    /// Every message of a mailbox over POP3 (STAT and RETR; nothing is deleted).
    #[track_caller]
    pub(crate) fn pop3_read(&self, user: &str) -> Messages {
        self.read_over("pop3", user)
    }

    /// Starts clients.py inside the host. Its reports go to `out`, one JSON line each.
    #[track_caller]
    pub(crate) fn client(&self, mode: &str, mut plan: Value, out: &Path) -> Child {
        plan["host"] = json!(self.host.addr().to_string());
        plan["password"] = json!(PASSWORD);
        plan["dovecot_conf"] = json!(self.dovecot_conf());
        let mut command = self.host.command("/usr/bin/python3");
        command.args(["-c", CLIENTS, mode]).stdin(Stdio::piped());
        command.stdout(fs::File::create(out).expect("a report file in an own dir"));
        let mut child = command.spawn().expect("nsenter starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin
            .write_all(plan.to_string().as_bytes())
            .expect("the client takes its plan");
        child
    }

    /// Ends both programs in an orderly way.
    pub(crate) fn stop(&self) {
        let pids: Vec<Pid> = ["postfix/queue/pid/master.pid", "dovecot/run/master.pid"]
            .iter()
            .filter_map(|file| fs::read_to_string(self.host.dir().join(file)).ok()?.trim().parse().ok())
            .filter(|pid| self.host.pids().contains(pid))
            .filter_map(Pid::from_raw)
            .collect();
        for signal in [Signal::TERM, Signal::KILL] {
            for pid in &pids {
                // It may be gone already.
                let _ = kill_process(*pid, signal);
            }
            let gone = || {
                pids.iter()
                    .all(|pid| !self.host.pids().contains(&pid.as_raw_nonzero().get()))
            };
            if holds_within(STOP_MAX, gone) {
                return;
            }
        }
    }

    pub(crate) fn dovecot_conf(&self) -> String {
        self.host.dir().join("dovecot/dovecot.conf").display().to_string()
    }

    fn configure(&self, more: &str) {
        let (postfix, dovecot) = (self.host.dir().join("postfix"), self.host.dir().join("dovecot"));
        for dir in ["queue", "data"] {
            fs::create_dir_all(postfix.join(dir)).expect("mkdir in an own dir");
        }
        // Over /etc/postfix inside the host: set-gid postdrop takes no other place, and sendmail(1) needs no option.
        let conf = postfix.join("conf");
        let (conf_text, postfix_text) = (conf.display().to_string(), postfix.display().to_string());
        self.host.run("cp", &["-a", "/etc/postfix", &conf_text]);
        write(
            &conf.join("main.cf"),
            &mail_conf::postfix_main(&self.host, &postfix, &self.spool),
        );
        write(&conf.join("master.cf"), mail_conf::POSTFIX_MASTER);
        self.host.run("mount", &["--bind", &conf_text, "/etc/postfix"]);
        self.host.run("chown", &["postfix", &format!("{postfix_text}/data")]);
        fs::create_dir_all(&dovecot).expect("mkdir in an own dir");
        write(
            &dovecot.join("dovecot.conf"),
            &(mail_conf::dovecot(&self.host, &dovecot, &self.spool)
                + &more.replace("SPOOL", &self.spool.display().to_string())),
        );
        // dovecot-lda opens the log as the receiving user.
        write(&dovecot.join("log"), "");
        fs::set_permissions(dovecot.join("log"), fs::Permissions::from_mode(0o666)).expect("chmod of an own file");
    }

    fn greets(&self, port: &str, greeting: &str) -> bool {
        let script = "exec 3<>/dev/tcp/$0/$1 && read -rt 5 line <&3 && [[ $line == \"$2\"* ]]";
        let mut command = self.host.command("bash");
        command
            .args(["-c", script, &self.host.addr().to_string(), port, greeting])
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    #[track_caller]
    fn read_over(&self, protocol: &str, user: &str) -> Messages {
        let out = self.host.dir().join(format!("read-{protocol}-{user}"));
        let status = self
            .client(&format!("{protocol}-read"), json!({ "user": user }), &out)
            .wait();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{protocol} read of {user}: see the traceback above"
        );
        let text = fs::read_to_string(&out).expect("the report is there");
        serde_json::from_str(&text).expect("the report is a JSON list of texts")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The host's temp dir goes with it, so the last words must be said now.
            for (name, log) in [("maillog", self.maillog()), ("dovecot log", self.dovecot_log())] {
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines
                    .get(lines.len().saturating_sub(30)..)
                    .unwrap_or_default()
                    .join("\n");
                eprintln!("--- {} {name}, last lines ---\n{tail}", self.host.name());
            }
        }
        self.stop();
    }
}

/// Gives a mounted directory the owner and mode of Debian's mail spool. Do it inside the host.
#[track_caller]
pub(crate) fn make_spool(host: &Host, spool: &Path) {
    let spool = spool.display().to_string();
    host.run("chown", &["root:mail", &spool]);
    host.run("chmod", &["2775", &spool]);
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("write in an own dir");
}

/// Runs a command to its end with `input` as its standard input.
fn feed(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsenter starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A program that ends without reading everything tells why by its status.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the child can be waited for")
}

#[track_caller]
fn success(program: &str, output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}: {complaint}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
