-- Service and availability of each SKU and day, side by side.
{{ config(materialized='table', order_by='(day, sku)') }}

WITH availability AS (
    SELECT toDate(hour) AS day, sku, avg(available) AS availability
    FROM {{ source('lotline', 'bi_availability') }}
    GROUP BY day, sku
)
SELECT a.day AS day, a.sku AS sku, ifNull(s.units_requested, 0) AS units_requested, ifNull(s.units_from_stock, 0) AS units_from_stock,
       ifNull(s.units_out_of_stock, 0) AS units_out_of_stock, s.fill_rate AS fill_rate, a.availability AS availability
FROM availability AS a -- which has the days on which nothing happened too
LEFT JOIN {{ source('lotline', 'bi_service_levels') }} AS s ON a.day = s.day AND a.sku = s.sku
