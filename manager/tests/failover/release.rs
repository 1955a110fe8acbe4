//! The command that ends a hold.

use manager::release::release_hold;

use super::cluster::Cluster;
use super::world::lock;

#[tokio::test]
async fn a_hold_is_ended_on_request_and_only_then() {
    let cluster = Cluster::start().await;
    cluster.run(&cluster.request()).await;
    assert!(!lock(&cluster.world).server("db1").held_down_by.is_empty());
    let dead = cluster.config.find("db1").unwrap();
    assert!(release_hold(&cluster.config, dead).await.unwrap());
    assert!(lock(&cluster.world).server("db1").held_down_by.is_empty());
    assert!(!release_hold(&cluster.config, dead).await.unwrap());
    assert_eq!(lock(&cluster.world).server("db1").holder, None);
}
