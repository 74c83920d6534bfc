//! `/repo/…`: ranges and conditions (RFC 9110, 13 and 14), on a blob that is streamed and on one
//! that is in memory.

use motorcade::api::ImageBody;
use reqwest::Method;

use crate::answer::Answer;
use crate::app::{TestServer, pattern, send};

/// A server with a large and a small image.
struct Files {
    server: TestServer,
    paths: [String; 2],
    bodies: [Vec<u8>; 2],
}

impl Files {
    async fn publish() -> Self {
        let server = TestServer::start().await;
        let mut paths = Vec::new();
        let mut bodies = Vec::new();
        for (path, length) in [("gw/1/large.bin", 3_000_000), ("gw/1/small.bin", 10_000)] {
            let image: ImageBody = server.upload(path, pattern(length, 1)).await.body();
            let url = image.sealed.url;
            bodies.push(send(server.request(Method::GET, &url)).await.expect(200).to_vec());
            paths.push(url);
        }
        Self { server, paths: paths.try_into().unwrap(), bodies: bodies.try_into().unwrap() }
    }

    async fn ask(&self, method: Method, file: usize, headers: &[(&str, &str)]) -> Answer {
        let request = self.server.request(method, &self.paths[file]);
        send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
            .await
    }

    async fn get(&self, file: usize, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, file, headers).await
    }
}

#[tokio::test]
async fn one_range_is_one_part() {
    let files = Files::publish().await;
    for (file, body) in files.bodies.iter().enumerate() {
        let length = body.len();
        for (range, part) in [
            ("bytes=0-0".to_owned(), 0..1),
            ("bytes=0-999".to_owned(), 0..1000),
            ("bytes=1000-".to_owned(), 1000..length),
            ("bytes=-1".to_owned(), length - 1..length),
            ("bytes=-999999999".to_owned(), 0..length),
            (format!("bytes={}-", length - 1), length - 1..length),
            (format!("bytes=5-{}", length + 1000), 5..length),
            ("bytes=5-99999999999999999999999".to_owned(), 5..length),
            ("BYTES= 5-9 ".to_owned(), 5..10),
            ("bytes=0-4,5-9".to_owned(), 0..10),
            ("bytes=0-9,3-5".to_owned(), 0..10),
            (format!("bytes=0-4,{length}-"), 0..5),
        ] {
            let answer = files.get(file, &[("range", &range)]).await;
            assert_eq!(answer.status, 206, "{range}: {:?}", answer.headers);
            let expected = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            assert_eq!(answer.header("content-range"), Some(&*expected), "{range}");
            assert_eq!(answer.header("content-length"), Some(&*part.len().to_string()), "{range}");
            assert!(answer.body == body[part], "{range}");
        }
    }
}

#[tokio::test]
async fn several_ranges_are_a_multipart_body() {
    let files = Files::publish().await;
    for (file, body) in files.bodies.iter().enumerate() {
        let length = body.len();
        let answer = files.get(file, &[("range", "bytes=0-9, 100-199, -50")]).await;
        assert_eq!(answer.status, 206);
        assert_eq!(answer.header("content-range"), None);
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
        let boundary = answer
            .header("content-type")
            .unwrap()
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let mut expected = Vec::new();
        for part in [0..10, 100..200, length - 50..length] {
            let preamble = format!(
                "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {}-{}/{length}\r\n\r\n",
                part.start,
                part.end - 1
            );
            expected.extend_from_slice(preamble.as_bytes());
            expected.extend_from_slice(&body[part]);
            expected.extend_from_slice(b"\r\n");
        }
        expected.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        assert!(answer.body == expected, "{}", String::from_utf8_lossy(&answer.body));
    }
}

#[tokio::test]
async fn a_range_past_the_end_is_416() {
    let files = Files::publish().await;
    for (file, body) in files.bodies.iter().enumerate() {
        let length = body.len();
        let past = [
            format!("bytes={length}-"),
            format!("bytes={}-{}", length + 5, length + 9),
            "bytes=-0".into(),
        ];
        for range in past.iter().map(String::as_str).chain(["bytes=99999999999999999999-"]) {
            let answer = files.get(file, &[("range", range)]).await;
            assert_eq!(answer.status, 416, "{range}");
            assert_eq!(
                answer.header("content-range"),
                Some(&*format!("bytes */{length}")),
                "{range}"
            );
            assert!(answer.body.len() < 1000, "{range}");
        }
    }
}

#[tokio::test]
async fn a_range_that_can_t_be_read_or_is_greedy_gets_the_whole() {
    let files = Files::publish().await;
    let many: String =
        (0..20).map(|number| format!("{}-{},", number * 10, number * 10 + 1)).collect();
    let (greedy, endless) = (format!("bytes={many}"), format!("bytes={}", "0-1,".repeat(5000)));
    for range in [
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=0-9,x",
        "bytes=0x0-9",
        "bytes=+0-9",
        "bytes=0 - 9",
        "lines=0-9",
        "bytes 0-9",
        &greedy,
        &endless,
    ] {
        for (file, body) in files.bodies.iter().enumerate() {
            let answer = files.get(file, &[("range", range)]).await;
            assert_eq!(answer.status, 200, "{range:.60}");
            assert!(answer.body == *body, "{range:.60}");
        }
    }
}

#[tokio::test]
async fn overlapping_ranges_never_send_more_than_there_is() {
    let files = Files::publish().await;
    let overlapping = format!("bytes={}", ["0-"; 16].join(","));
    for (file, body) in files.bodies.iter().enumerate() {
        let answer = files.get(file, &[("range", &overlapping)]).await;
        assert_eq!((answer.status, answer.body.len()), (206, body.len()));
    }
}

#[tokio::test]
async fn head_ignores_ranges() {
    let files = Files::publish().await;
    for (file, body) in files.bodies.iter().enumerate() {
        let answer = files.ask(Method::HEAD, file, &[("range", "bytes=0-9")]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), Some(&*body.len().to_string()));
        assert_eq!(answer.header("content-range"), None);
    }
}

#[tokio::test]
async fn a_range_counts_only_for_the_representation_it_was_meant_for() {
    let files = Files::publish().await;
    for file in [0, 1] {
        let whole = files.ask(Method::HEAD, file, &[]).await;
        let (etag, date) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
        let weak = format!("W/{etag}");
        for (if_range, status) in [
            (etag, 206),
            (date, 206),
            ("\"another\"", 200),
            (&weak, 200),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 200),
            ("no date", 200),
            ("*", 200),
        ] {
            let answer = files.get(file, &[("range", "bytes=0-9"), ("if-range", if_range)]).await;
            assert_eq!(answer.status, status, "{if_range}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_the_file_gets_304() {
    let files = Files::publish().await;
    for file in [0, 1] {
        let whole = files.ask(Method::HEAD, file, &[]).await;
        let (etag, date) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
        let (weak, list) = (format!("W/{etag}"), format!("\"x\", W/\"y,z\", {etag}"));
        for tags in [etag, &weak, &list, "*"] {
            for method in [Method::GET, Method::HEAD] {
                let answer = files.ask(method.clone(), file, &[("if-none-match", tags)]).await;
                assert_eq!((answer.status, answer.body.len()), (304, 0), "{method} {tags}");
                assert_eq!(answer.header("etag"), Some(etag));
                assert_eq!(answer.header("cache-control"), whole.header("cache-control"));
            }
        }
        assert_eq!(files.get(file, &[("if-modified-since", date)]).await.status, 304);
        let earlier = "Sun, 06 Nov 1994 08:49:37 GMT";
        for headers in [
            &[("if-none-match", "\"another\"")][..],
            &[("if-modified-since", earlier)],
            &[("if-modified-since", "no date")],
            &[("if-none-match", "\"another\""), ("if-modified-since", date)],
        ] {
            assert_eq!(files.get(file, headers).await.status, 200, "{headers:?}");
        }
        assert_eq!(
            files.get(file, &[("if-none-match", etag), ("range", "bytes=0-9")]).await.status,
            304
        );
    }
}

#[tokio::test]
async fn a_client_that_wants_another_file_gets_412() {
    let files = Files::publish().await;
    for file in [0, 1] {
        let whole = files.ask(Method::HEAD, file, &[]).await;
        let etag = whole.header("etag").unwrap();
        let weak = format!("W/{etag}");
        for headers in [
            &[("if-match", "\"another\"")][..],
            &[("if-match", &weak)],
            &[("if-match", "")],
            &[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")],
            &[("if-match", "\"another\""), ("range", "bytes=0-9")],
        ] {
            let answer = files.get(file, headers).await;
            assert_eq!((answer.status, answer.body.len()), (412, 0), "{headers:?}");
        }
        for headers in
            [&[("if-match", etag)][..], &[("if-match", "*")], &[("if-unmodified-since", "no date")]]
        {
            assert_eq!(files.get(file, headers).await.status, 200, "{headers:?}");
        }
        assert_eq!(
            files.get(file, &[("if-match", etag), ("range", "bytes=0-9")]).await.status,
            206
        );
    }
}

#[tokio::test]
async fn the_timestamp_is_revalidated_by_its_tag() {
    let server = TestServer::start().await;
    let ask = async |tag: &str| {
        send(server.request(Method::GET, "/repo/timestamp.json").header("if-none-match", tag)).await
    };
    let first = ask("\"none\"").await;
    let etag = first.header("etag").unwrap().to_owned();
    assert_eq!(ask(&etag).await.status, 304);
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let second = ask(&etag).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.header("etag"), Some(&*etag));
    let part = server.request(Method::GET, "/repo/timestamp.json").header("range", "bytes=0-9");
    assert_eq!(send(part).await.expect(206), second.body.slice(..10));
}
