//! Real nginx in front, with the files of packaging/nginx/.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use motorcade::config::RepoAccess;
use motorcade::model::AccessRole;
use motorcade::uptane::client::VerifiedRepository;
use reqwest::Method;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::app::{DESCRIPTION, TestServer, eventually, pattern, send};
use crate::ca::{Ca, client};
use crate::director::vehicle::TestVehicle;
use crate::support::{FreePort, Process, http, project};

/// nginx with one of the files, in a folder of its own; ends when dropped.
struct Nginx {
    process: Process,
    folder: TempDir,
    ports: Vec<FreePort>,
}

impl Nginx {
    /// Starts it with `file`, in which each of `replaced` stands for something else, and the ports
    /// of its `listen` lines for free ones.
    async fn start(file: &str, ports: Vec<FreePort>, replaced: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = fs::read_to_string(project("packaging/nginx").join(file)).unwrap();
        for (from, to) in replaced {
            assert!(text.contains(from), "{from} is in {file}");
            text = text.replace(from, to);
        }
        let listens: Vec<_> = text
            .lines()
            .filter(|line| line.trim().starts_with("listen "))
            .map(str::to_owned)
            .collect();
        assert_eq!(listens.len(), ports.len());
        for (line, port) in listens.iter().zip(&ports) {
            let number = line.split([' ', ';']).find(|word| word.parse::<u16>().is_ok()).unwrap();
            text = text.replace(line, &line.replace(number, &port.address().to_string()));
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};\n"))
            .concat();
        let main = format!(
            "daemon off; master_process off; pid nginx.pid; events {{}}\n\
             http {{ access_log off; {temporary} {text} }}"
        );
        fs::write(folder.path().join("nginx.conf"), main).unwrap();
        let log = fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = Command::new("nginx"); // scripts/test installs it
        command.arg("-p").arg(folder.path()).args(["-e", "error.log", "-c", "nginx.conf"]);
        let process = Process::spawn(command.stdin(Stdio::null()).stderr(log));
        let mut nginx = Self { process, folder, ports };
        let mut ended = None;
        let address = nginx.address(0);
        eventually("nginx listens", async || {
            ended = nginx.process.has_ended();
            ended.is_some() || TcpStream::connect(address).await.is_ok()
        })
        .await;
        assert!(ended.is_none(), "{}", nginx.said());
        nginx
    }

    fn address(&self, listen: usize) -> SocketAddr {
        self.ports[listen].address()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address(0))
    }

    fn said(&self) -> String {
        ["stderr", "error.log"]
            .map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default())
            .concat()
    }
}

async fn get(url: &str) -> Answer {
    Answer::of(http().get(url).send().await.unwrap()).await
}

/// What a stock client sees below a URL.
async fn repository(server: &TestServer, url: &str) -> VerifiedRepository {
    VerifiedRepository::load(&server.state.first_root(), url).await.unwrap()
}

async fn upload_through(nginx: &Nginx, server: &TestServer, path: &str, body: Vec<u8>) -> Answer {
    let request = http().put(nginx.url(&format!("/api/v1/images/{path}?{DESCRIPTION}")));
    let request = request.bearer_auth(&server.state.tokens.uploader).body(body);
    Answer::of(request.send().await.unwrap()).await
}

fn below(folder: &Path) -> usize {
    crate::state::files_below(folder).len()
}

#[tokio::test]
async fn nginx_carries_uploads_and_sends_images_itself_in_all_three_ways() {
    let ports = vec![FreePort::new(), FreePort::new()];
    let carried = format!("http://{}/static", ports[0].address());
    let server = TestServer::configured(|config| {
        config.targets_accel = Some("/blobs".into());
    })
    .await;
    let (address, state) = (server.address.to_string(), server.state.path().to_str().unwrap());
    let replaced = [("127.0.0.1:8080", address.as_str()), ("/srv/motorcade-data", state)];
    let nginx = Nginx::start("motorcade.conf", ports, &replaced).await;
    let image = pattern(3_000_000, 7);
    upload_through(&nginx, &server, "gw/1/a.bin", image.clone()).await.expect(201);
    let other = pattern(3_000_000, 8);
    upload_through(&nginx, &server, "gw/1/a.bin", other).await.refused(409, "image_exists");
    for folder in ["client_body", "proxy"] {
        assert_eq!(below(&nginx.folder.path().join(folder)), 0, "nothing goes through {folder}");
    }

    // X-Accel-Redirect: nginx sends the file, and Motorcade decides.
    let sealed = server.image("gw/1/a.bin").await.sealed;
    let stored = fs::read(server.state.blob(sealed.url.trim_start_matches("/repo/"))).unwrap();
    let direct = send(server.request(Method::GET, &sealed.url)).await;
    assert!(direct.header("x-accel-redirect").is_some() && direct.body.is_empty());
    let through = get(&nginx.url(&sealed.url)).await;
    assert!(through.header("server").unwrap().starts_with("nginx"));
    assert!(through.expect(200) == stored);
    let request = http().get(nginx.url(&sealed.url)).header("range", "bytes=1000000-1000099");
    let part = Answer::of(request.send().await.unwrap()).await;
    assert!(part.expect(206) == stored[1_000_000..1_000_100]);
    let name = sealed.url.trim_start_matches("/repo/");
    get(&nginx.url(&format!("/blobs/{name}"))).await.expect(404);
    get(&nginx.url("/metrics")).await.expect(404);
    let file = nginx.folder.path().join("downloaded");
    let by_nginx = nginx.url("/repo");
    repository(&server, &by_nginx).await.download("gw/1/a.bin", &file).await.unwrap();
    assert!(fs::read(&file).unwrap() == stored);

    // No Motorcade on the way: its folder as it is, and never an old timestamp.
    let as_files = format!("http://{}/repo", nginx.address(1));
    repository(&server, &as_files).await.download("gw/1/a.bin", &file).await.unwrap();
    upload_through(&nginx, &server, "gw/2/a.bin", image).await.expect(201);
    assert!(repository(&server, &as_files).await.find("gw/2/a.bin").is_some());

    // A redirect to where the files are.
    let redirecting = TestServer::on(server.stop(), |config| {
        config.targets_url = Some(carried);
    })
    .await;
    let url = redirecting.url("/repo");
    repository(&redirecting, &url).await.download("gw/2/a.bin", &file).await.unwrap();
    let sealed = redirecting.image("gw/2/a.bin").await.sealed;
    let answer = send(redirecting.request(Method::GET, &sealed.url)).await;
    assert!(answer.header("location").unwrap().contains("/static/"), "{answer:?}");
}

#[tokio::test]
async fn nginx_says_whose_certificate_it_has_checked_and_a_client_can_t() {
    let ca = Ca::new("OEM");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = ca.issue("server", None);
    let list = ca.revoke(&[3], 2099).pem().unwrap();
    for (name, text) in [("crt", certificate), ("key", key), ("ca", ca.pem.clone()), ("crl", list)]
    {
        fs::write(path(name), text).unwrap();
    }
    let server = TestServer::configured(|config| {
        config.vehicles.proxy =
            Some(("X-Vehicle-Id".to_owned(), vec!["127.0.0.1".parse().unwrap()]));
    })
    .await;
    let files = ["crt", "key", "ca", "crl"].map(path);
    let address = server.address.to_string();
    let replaced = [
        ("127.0.0.1:8080", address.as_str()),
        ("/etc/motorcade/tls.crt", &files[0]),
        ("/etc/motorcade/tls.key", &files[1]),
        ("/etc/motorcade/vehicles-ca.pem", &files[2]),
        ("/etc/motorcade/vehicles.crl", &files[3]),
    ];
    let nginx = Nginx::start("vehicles.conf", vec![FreePort::new()], &replaced).await;
    for vin in ["VIN1", "VIN2", "VIN3"] {
        TestVehicle::registered(&server, vin).await;
    }
    let targets = format!("https://{}/director/targets.json", nginx.address(0));
    let ask = async |client: reqwest::Client| {
        let request = client.get(&targets).header("X-Vehicle-Id", "VIN2");
        Answer::of(request.send().await.unwrap()).await
    };
    let known = ask(client(&ca, Some(ca.issue_numbered("VIN1", 1)))).await;
    assert_eq!(known.json()["signed"]["vin"], "VIN1", "and not the one that the client named");
    ask(client(&ca, None)).await.refused(401, "unauthenticated");
    let revoked = ask(client(&ca, Some(ca.issue_numbered("VIN3", 3)))).await;
    assert_eq!(revoked.status, 400, "nginx refuses it: {revoked:?}");
    let another = Ca::new("OEM"); // of the same name
    let forged = another.issue_numbered("VIN1", 1);
    assert_eq!(ask(client(&ca, Some(forged))).await.status, 400);
    let root = format!("https://{}/repo/1.root.json", nginx.address(0));
    let answer = client(&ca, None).get(root).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the repository is for everybody");
}

#[tokio::test]
async fn a_cache_keeps_what_never_changes_and_nothing_else() {
    for access in [RepoAccess::Public, RepoAccess::Token] {
        let server = TestServer::configured(|config| config.repo_access = access).await;
        let cache = tempfile::tempdir().unwrap();
        let (address, folder) = (server.address.to_string(), cache.path().to_str().unwrap());
        let replaced =
            [("127.0.0.1:8080", address.as_str()), ("/var/cache/nginx/motorcade", folder)];
        let nginx = Nginx::start("cdn.conf", vec![FreePort::new()], &replaced).await;
        server.upload("gw/1/a.bin", pattern(100_000, 3)).await.expect(201);
        let url = server.image("gw/1/a.bin").await.sealed.url;
        let ask = async |url: &str| {
            let request = http().get(nginx.url(url)).bearer_auth(&server.state.tokens.viewer);
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            (answer.header("x-cache").unwrap().to_owned(), answer.body)
        };
        let (first, second) = (ask(&url).await, ask(&url).await);
        assert!(first.1 == second.1);
        match access {
            RepoAccess::Public => assert_eq!((&*first.0, &*second.0), ("MISS", "HIT")),
            RepoAccess::Token => {
                assert_ne!(second.0, "HIT", "what takes a token is not kept");
                get(&nginx.url(&url)).await.refused(401, "unauthenticated");
                continue;
            }
        }
        let before = ask("/repo/timestamp.json").await.1;
        server.upload("gw/2/a.bin", pattern(100_000, 4)).await.expect(201);
        let (kept, after) = ask("/repo/timestamp.json").await;
        assert!(kept != "HIT" && before != after, "a new timestamp is there at once");
        let by_cache = nginx.url("/repo");
        let file = cache.path().join("downloaded");
        for _ in 0..2 {
            repository(&server, &by_cache).await.download("gw/2/a.bin", &file).await.unwrap();
        }
        let yank = format!("/api/v1/images/{}", "gw/1/a.bin");
        send(server.request_as(AccessRole::Officer, Method::DELETE, &yank)).await.expect(204);
        assert!(repository(&server, &by_cache).await.find("gw/1/a.bin").is_none());
    }
}
