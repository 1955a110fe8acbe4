//! A replica that is kept behind on purpose, beside one whose applier was stopped: the first has received most and serves it
//! to the others, does not become the primary though it is preferred, and stays delayed.

use manager::elect::{Lost, Unfit};
use tests::sandbox::deployment::{DeploymentSpec, server_name};
use tests::sandbox::{ClusterSpec, ServerKind};
use tests::scenario::{Applier, Expected, Failure, Lag, Plan, Scene, expect, expect_eq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_what_it_has_received_and_is_passed_over() -> Result<(), Failure> {
    let spec = ClusterSpec::new(ServerKind::MySql57).replicas(3);
    let mut scene = Scene::without_agents(spec).await?;
    let preferred = DeploymentSpec::default().candidate(2, "preferred");
    scene.start_agents(&preferred).await?;
    let lags = [
        Lag::behind(2),
        Lag::applied(4, 1, Applier::Delayed),
        Lag::applied(3, 2, Applier::Stopped),
    ];
    let played = scene.play(&Plan::rows(&lags)).await?;
    // What nobody else has is in the relay log of the delayed one, and nowhere else that can be reached.
    scene.host_of_the_primary_is_gone()?;
    let expected = Expected::all().up_to(played.end()?, 12);
    let (ended, winner) = scene.survives(&expected).await?;
    expect(winner != 2, "number of the new primary", "1 or 3", winner)?;
    let delayed = server_name(scene.cluster.server(2));
    let losers = ended
        .report
        .election
        .iter()
        .flat_map(|election| &election.losers);
    let why: Vec<&Lost> = losers
        .filter(|(server, _)| *server == delayed)
        .map(|(_, lost)| lost)
        .collect();
    let wanted = Lost::Unfit {
        why: vec![Unfit::KeptBehind { delay_s: 3600 }],
    };
    expect_eq(format!("why {delayed} lost"), &why, &vec![&wanted])
}
