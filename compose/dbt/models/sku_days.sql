-- Service and availability of each SKU and day, side by side.
{{ config(materialized='table', order_by='(day, sku)') }}

WITH availability AS (
    SELECT toDate(hour) AS day, sku, avg(available) AS availability
    FROM {{ source('lotline', 'bi_availability') }}
    GROUP BY day, sku
)
SELECT s.day AS day, s.sku AS sku, s.units_requested AS units_requested, s.units_from_stock AS units_from_stock,
       s.units_out_of_stock AS units_out_of_stock, s.fill_rate AS fill_rate, a.availability AS availability
FROM {{ source('lotline', 'bi_service_levels') }} AS s
JOIN availability AS a ON a.day = s.day AND a.sku = s.sku
