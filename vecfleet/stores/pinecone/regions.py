"""The clouds and regions in which the service makes indexes, as its SDK names them."""

from collections.abc import Mapping

from pinecone.models.enums import AwsRegion, AzureRegion, CloudProvider, GcpRegion

REGIONS: Mapping[str, tuple[str, ...]] = {
    CloudProvider.AWS.value: tuple(region.value for region in AwsRegion),
    CloudProvider.AZURE.value: tuple(region.value for region in AzureRegion),
    CloudProvider.GCP.value: tuple(region.value for region in GcpRegion),
}
