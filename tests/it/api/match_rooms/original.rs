//! Plays the same frames to the dialect's original and to Roomcast.

use tests::{
    cluster::{Cluster, SECRET, Size},
    original::{Original, compare},
};

use super::matched;

#[tokio::test]
async fn match_answers_equal_those_of_the_original() {
    let original = Original::start("match").await;
    let cluster = Cluster::start(Size::default()).await;
    let rooms = [matched(&cluster, ["1", "2"]).await, matched(&cluster, ["2", "3"]).await];
    let arguments =
        vec![original.address(), cluster.fanout[0].address(), SECRET.to_owned(), format!("{rooms:?}")];
    let output = compare("compare_match.py", arguments).await;
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}{}", original.tail());
}
